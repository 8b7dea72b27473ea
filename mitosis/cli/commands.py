"""The commands of `mito`, one line each: the only place that knows their names.

Help, both grammars (the seed's, and the renamed tree of version 0.6), completion, the reference of
JSON results and the tests are made from these tables. Importing them must stay cheap: completion
reads them while a person waits for TAB.

A new command is one more line here and a function. A command whose function is not there yet is
not listed.
"""

from typing import NamedTuple


class Command(NamedTuple):
    """One command.

    Attributes:
        path: Its words. Below a group of `NAMED` the name of the thing stands before the last
            word on the command line: `manage task TASK cancel` is `manage task cancel` here.
        home: `module:function` inside `mitosis.cli`.
        summary: One line for lists of commands.
        example: A line that works, beginning with the path; without `mito client`.
        also: Paths of the same command in the grammar of version 0.6. One whose arguments have
            another order is a command of its own, with its own function.
        usage: What follows the path, where it cannot be told from the parameters of the function.
        result: The struct whose JSON it prints, `module:struct` inside `mitosis`; empty: none.
        stream: It prints one such value a line instead of one.
        secret: Its arguments may hold a password: no history keeps such a line.
    """

    path: str
    home: str
    summary: str
    example: str
    also: tuple[str, ...] = ()
    usage: str = ""
    result: str = ""
    stream: bool = False
    secret: bool = False

    @property
    def words(self) -> list[str]:
        """The path as words."""
        return self.path.split()

    def examples(self) -> dict[str, str]:
        """The example by path: the same line in every grammar."""
        here = spelled(self.words)
        rest = self.example.split()[len(here) :]
        name = self.example.split()[2:3] if self.path.rpartition(" ")[0] in NAMED else []
        return {self.path: self.example} | {
            path: " ".join([*path.split(), *name, *rest]) for path in self.also
        }


LONGEST_PATH = 4  # words

# Groups of commands in which the name of the thing stands before the verb, as in the seed.
NAMED = {"manage worker": "WORKER", "manage task": "TASK", "manage group": "GROUP"}

# Commands of `mito` itself.
PLATFORM = (
    Command(
        "coordinator", "services:coordinator", "Run the mitosis coordinator",
        "coordinator --config config.toml",
    ),
    Command(
        "projector", "services:projector", "Build the read models and answer queries",
        "projector --config config.toml",
    ),
    Command(
        "worker", "services:worker", "Run a mitosis worker",
        "worker -c http://127.0.0.1:5000 --groups group1,group2:write --tags wired",
    ),
    Command(
        "up", "platform:up", "Run a whole platform on this machine", "up --workers 2",
        result="services.platform:ReadyNotice",
    ),
    Command(
        "demo", "platform:demo", "Run a platform with a small real campaign, and check it",
        "demo --workers 2",
        result="demo.sweep:Report",
    ),
    Command(
        "events list", "audit:list_events", "Print what was stored, by whom and from where",
        "events list --actor alice --since yesterday",
        result="contract.queries:CommitView", stream=True,
    ),
    Command(
        "events tail", "audit:tail_events", "Print the end of what was stored, and what comes",
        "events tail -f --group test_group",
        result="contract.queries:CommitView", stream=True,
    ),
    Command(
        "events verify", "events:verify", "Check that history is what was stored",
        "events verify --config config.toml",
        result="services.proof.findings:Verified",
    ),
    Command(
        "events export", "events:export", "Write history as JSON lines",
        "events export --config config.toml --output history.jsonl",
        result="services.proof.export:ExportedCommit", stream=True,
    ),
    Command(
        "events public-keys", "events:public_keys",
        "Print the public keys that sign history",
        "events public-keys --config config.toml",
        result="services.proof.online:KeyList",
    ),
    Command(
        "events repair", "repair:repair", "Make a damaged event stream whole again",
        "events repair --data ~/mitosis --yes",
        result="services.repair.rebuild:Repaired",
    ),
    Command(
        "events schema", "event_schemas:schema", "Print the form of events as JSON Schema",
        "events schema task.submitted", usage="[NAME]",
        result="cli.event_schemas:EventSchema",
    ),
    Command(
        "events replay", "replay:replay",
        "Build the read models of a moment of the past in another database",
        "events replay --to 4711 --into past_4711 --config config.toml",
        result="projections.replay:Replayed",
    ),
    Command(
        "backup", "backup:backup", "Back up the whole platform into a folder",
        "backup /var/backups/mitosis-1 --config config.toml", usage="FOLDER [OPTIONS]",
        result="services.backup.taking:Taken",
    ),
    Command(
        "restore", "backup:restore", "Bring back what of a platform is lost",
        "restore /var/backups/mitosis-1 --config config.toml", usage="FOLDER [OPTIONS]",
        result="services.backup.restoring:BroughtBack",
    ),
    Command(
        "projections rebuild", "projections:rebuild",
        "Build the read models anew from the stream, while the platform runs",
        "projections rebuild --config config.toml",
        result="projections.beside:Rebuilt",
    ),
    Command(
        "projections verify", "projections:verify",
        "Compare every row of the read models with the stream",
        "projections verify --config config.toml",
        result="projections.comparison:Compared",
    ),
    Command(
        "config show", "config:show_settings", "Show the settings in effect",
        "config show coordinator --origin", usage="[SECTION...] [OPTIONS]",
        result="config.effective:ShownSettings",
    ),
    Command(
        "config check", "config:check", "Check a settings file",
        "config check config.toml", result="config.effective:CheckedFile",
    ),
    Command(
        "config example", "config:print_example", "Print an example file with all defaults",
        "config example", result="config.effective:ExampleFile",
    ),
    Command(
        "nats-config", "nats_config:nats_config", "Write the configuration for nats-server",
        "nats-config --output nats.conf",
        result="cli.output.results:ServerConfig",
    ),
)  # fmt: skip

_TASK = "e07a2bf2-166d-40b5-8bb6-a78104c072f9"
_WORKER = "b168dbe6-5c44-4529-a3b4-51940d6bb3c5"

# Commands of `mito client`. What begins with a word of `SEED_GROUPS` is the seed's grammar.
CLIENT = (
    Command(
        "auth", "login:auth", "Authenticate the user", "auth alice",
        secret=True,
        usage="[USERNAME [PASSWORD]]",
        result="cli.output.results:UserRights",
    ),
    Command(
        "create user", "users:create_user", "Create a new user",
        "create user -u test_user_name -p test_user_password",
        usage="--username USERNAME --password PASSWORD [OPTIONS]",
        result="cli.output.results:UserRights", secret=True,
    ),
    Command(
        "create group", "groups:create_group", "Create a new group", "create group test_group",
        also=("groups create",), result="cli.output.results:NamedGroup",
    ),
    Command(
        "get task", "tasks:get_task", "Get the info of a task", f"get task {_TASK}",
        also=("tasks get",), result="contract.queries:TaskView",
    ),
    Command(
        "get tasks", "tasks:get_tasks", "Query a list of tasks subject to the filter",
        "get tasks -l mobile",
        also=("tasks query",), result="contract.queries:TaskPage",
    ),
    Command(
        "get worker", "workers:get_worker", "Get the info of a worker", f"get worker {_WORKER}",
        also=("workers get",), result="contract.queries:WorkerView",
    ),
    Command(
        "get workers", "workers:get_workers", "Query a list of workers subject to the filter",
        "get workers -t wired",
        also=("workers query",), result="contract.queries:WorkerPage",
    ),
    Command(
        "get group", "groups:get_group", "Get the information of a group", "get group test_group",
        also=("groups get",), result="contract.queries:GroupView",
    ),
    Command(
        "get groups", "groups:get_groups", "Get all groups the user has access to", "get groups",
        also=("users groups",), result="contract.queries:GroupList",
    ),
    Command(
        "get artifact", "artifacts:get_artifact", "Download an artifact of a task",
        f"get artifact {_TASK} result",
        also=("tasks artifacts download",), result="client.downloads:Downloaded",
    ),
    Command(
        "get attachment", "attachments:get_attachment", "Download an attachment of a group",
        "get attachment test_group attachment_key",
        result="client.downloads:Downloaded",
    ),
    Command(
        "get attachments", "attachments:get_attachments",
        "Query a list of attachments subject to the filter",
        "get attachments -g test_group -k data/",
        result="contract.queries:AttachmentPage",
    ),
    Command(
        "get attachment-meta", "attachments:get_attachment_meta",
        "Get the metadata of an attachment", "get attachment-meta test_group attachment_key",
        result="contract.queries:AttachmentView",
    ),
    Command(
        "upload artifact", "artifacts:upload_artifact", "Upload an artifact to a task",
        f"upload artifact {_TASK} result local.tar.gz",
        result="contract.commands:UploadedArtifact",
    ),
    Command(
        "upload attachment", "attachments:upload_attachment", "Upload an attachment to a group",
        "upload attachment -g test_group local.tar.gz attachment_key",
        usage="[OPTIONS] FILE [KEY]",
        also=("groups attachments upload",), result="contract.commands:UploadedAttachment",
    ),
    Command(
        "submit", "tasks:submit", "Submit a task",
        "submit -g test_group -t wireless,4g -l mobile,video -e TEST_KEY=1 -- echo hello",
        also=("tasks submit",), usage="[OPTIONS] [-- COMMAND...]",
        result="cli.output.waited:SubmittedTask",
    ),
    Command(
        "explain", "explain:explain", "Say why a task waits, or why it has waited",
        f"explain {_TASK}",
        also=("tasks explain",), usage="TASK", result="contract.queries:Explanation",
    ),
    Command(
        "diff", "diff:diff", "Say what differed between two tasks",
        f"diff {_TASK} last", also=("tasks diff",), usage="TASK TASK [OPTIONS]",
        result="client.comparison:TaskComparison",
    ),
    Command(
        "rerun", "reruns:rerun", "Run tasks once more, as they were or with edits",
        "rerun --outcome failed -l run-7 --timeout 1h --yes",
        also=("tasks rerun",), usage="[TASK...] [OPTIONS]",
        result="client.reruns:Reran",
    ),
    Command(
        "follow", "follow:follow", "Show what tasks write while they run", f"follow {_TASK}",
        also=("tasks follow",), usage="[OPTIONS] TASK...",
        result="cli.output.following:FollowedLine", stream=True,
    ),
    Command(
        "watch", "watch:watch", "Show the states of tasks as they change", f"watch {_TASK}",
        also=("tasks watch",), usage="[OPTIONS] [TASK...]",
        result="client.task_changes:TaskChange", stream=True,
    ),
    Command(
        "top", "top:top", "Show what the platform does just now", "top -g test_group",
        result="client.overview:Overview",
    ),
    Command(
        "wait", "wait:wait", "Wait for the end of tasks", f"wait {_TASK}",
        also=("tasks wait",), usage="[OPTIONS] [TASK...]",
        result="cli.output.waited:Waited",
    ),
    Command(
        "history task", "audit:history_task", "Show everything that happened to a task",
        f"history task {_TASK}",
        also=("tasks history",), result="client.changes:HistoryEntry", stream=True,
    ),
    Command(
        "history worker", "audit:history_worker", "Show everything that happened to a worker",
        f"history worker {_WORKER} --since yesterday",
        also=("workers history",), result="client.changes:HistoryEntry", stream=True,
    ),
    Command(
        "history group", "audit:history_group", "Show everything that happened to a group",
        "history group test_group --event group.member_role_set",
        also=("groups history",), result="client.changes:HistoryEntry", stream=True,
    ),
    Command(
        "history user", "audit:history_user", "Show everything that happened to an account",
        "history user alice --since yesterday",
        also=("users history", "admin users history"), result="client.changes:HistoryEntry",
        stream=True,
    ),
    Command(
        "history attachment", "audit:history_attachment",
        "Show everything that happened to a file of a group",
        "history attachment -g test_group attachment_key",
        also=("groups attachments history",), result="client.changes:HistoryEntry", stream=True,
    ),
    Command(
        "history runs", "inquiries:history_runs", "Show which tasks a worker ran, with which tags",
        f"history runs {_WORKER} --tags wired",
        also=("workers runs",), result="client.runs:WorkerRun", stream=True,
    ),
    Command(
        "history readers", "inquiries:history_readers",
        "Show who could read what is in a group or of a task, and when",
        f"history readers {_TASK} --artifact result --since 2026-03-01 --until 2026-04-01",
        usage="[TASK] [OPTIONS]", result="client.readers:Reader", stream=True,
    ),
    Command(
        "manage worker cancel", "workers:cancel_worker", "Stop a worker",
        f"manage worker {_WORKER} cancel",
        also=("workers cancel", "admin workers cancel"), usage="[OPTIONS]",
        result="contract.commands:WorkerChanged",
    ),
    Command(
        "manage worker update-tags", "workers:update_tags", "Replace the tags of a worker",
        f"manage worker {_WORKER} update-tags wired file",
        also=("workers update-tags",), usage="[TAGS]...",
        result="contract.commands:WorkerChanged",
    ),
    Command(
        "manage worker update-labels", "workers:update_labels", "Replace the labels of a worker",
        f"manage worker {_WORKER} update-labels rack1",
        also=("workers update-labels",), usage="[LABELS]...",
        result="contract.commands:WorkerChanged",
    ),
    Command(
        "manage worker update-roles", "workers:update_roles", "Give groups a role on a worker",
        f"manage worker {_WORKER} update-roles test_group:admin another_group:write",
        also=("workers update-roles",), usage="[GROUP:ROLE]...",
        result="contract.commands:WorkerChanged",
    ),
    Command(
        "manage worker remove-roles", "workers:remove_roles",
        "Take the roles of groups on a worker away",
        f"manage worker {_WORKER} remove-roles test_group",
        also=("workers remove-roles",), usage="[GROUP]...",
        result="contract.commands:WorkerChanged",
    ),
    Command(
        "manage worker update-slots", "workers:update_slots",
        "Change how many tasks a worker runs at once",
        f"manage worker {_WORKER} update-slots 4",
        also=("workers update-slots",), usage="SLOTS",
        result="contract.commands:WorkerChanged",
    ),
    Command(
        "manage worker pause", "workers:pause_worker", "Give a worker nothing new",
        f"manage worker {_WORKER} pause",
        also=("workers pause",), usage="[OPTIONS]", result="contract.commands:WorkerChanged",
    ),
    Command(
        "manage worker resume", "workers:resume_worker", "Let a paused worker take tasks again",
        f"manage worker {_WORKER} resume",
        also=("workers resume",), usage="[OPTIONS]", result="contract.commands:WorkerChanged",
    ),
    Command(
        "manage task cancel", "tasks:cancel_task", "Cancel a task",
        f"manage task {_TASK} cancel",
        also=("tasks cancel",), usage="[OPTIONS]", result="contract.commands:Cancelled",
    ),
    Command(
        "manage group update", "groups:update_members", "Give users a role in a group",
        "manage group test_group update alice:write bob:admin",
        also=("groups update-user",), usage="[USER:ROLE]...",
        result="cli.output.results:SetRoles",
    ),
    Command(
        "manage group remove", "groups:remove_members", "Take users out of a group",
        "manage group test_group remove alice",
        also=("groups remove-user",), usage="[USER]...",
        result="cli.output.results:RemovedMembers",
    ),
    Command(
        "shutdown", "accounts:shutdown", "Shut down the coordinator", "shutdown",
        usage="[SECRET]",
        also=("admin shutdown",), result="contract.commands:Done", secret=True,
    ),
    Command(
        "users change-password", "users:change_password", "Change your own password",
        "users change-password",
        usage="[OLD [NEW]]",
        result="cli.output.results:NamedUser", secret=True,
    ),
    Command(
        "users sessions", "users:get_sessions", "List your own open sessions", "users sessions",
        result="contract.queries:SessionList",
    ),
    Command(
        "users revoke-sessions", "users:revoke_sessions", "End sessions of your own",
        "users revoke-sessions --others",
        usage="[SESSION] [OPTIONS]",
        result="contract.commands:Done",
    ),
    Command(
        "admin users create", "accounts:create", "Create a new user",
        "admin users create alice",
        usage="[USERNAME [PASSWORD]] [OPTIONS]",
        result="cli.output.results:UserRights", secret=True,
    ),
    Command(
        "admin users list", "accounts:list_users", "List users", "admin users list --state locked",
        usage="[PREFIX] [OPTIONS]",
        result="contract.queries:UserPage",
    ),
    Command(
        "admin users delete", "accounts:delete_user", "Delete a user for ever",
        "admin users delete alice", result="cli.output.results:UserState",
    ),
    Command(
        "admin users lock", "accounts:lock_user", "Lock a user out", "admin users lock alice",
        result="cli.output.results:UserState",
    ),
    Command(
        "admin users unlock", "accounts:unlock_user", "Let a locked user log in again",
        "admin users unlock alice", result="cli.output.results:UserState",
    ),
    Command(
        "admin users promote", "accounts:promote_user", "Make a user a platform administrator",
        "admin users promote alice", result="cli.output.results:UserRights",
    ),
    Command(
        "admin users demote", "accounts:demote_user", "Make an administrator a usual user",
        "admin users demote alice", result="cli.output.results:UserRights",
    ),
    Command(
        "admin users change-password", "accounts:reset_password", "Give a user a new password",
        "admin users change-password alice",
        usage="[USERNAME [PASSWORD]]",
        result="cli.output.results:NamedUser", secret=True,
    ),
    Command(
        "admin users group-quota", "accounts:set_group_quota",
        "Change how many groups a user may have", "admin users group-quota alice +2",
        result="cli.output.results:UserQuota",
    ),
    Command(
        "admin users sessions", "accounts:get_sessions", "List the open sessions of a user",
        "admin users sessions alice", result="contract.queries:SessionList",
    ),
    Command(
        "admin users revoke-sessions", "accounts:revoke_sessions", "End sessions of a user",
        "admin users revoke-sessions alice",
        usage="USERNAME [SESSION]",
        result="contract.commands:Done",
    ),
    Command(
        "admin groups storage-quota", "groups:set_storage_quota",
        "Change how many bytes a group may store", "admin groups storage-quota test_group +5GB",
        result="cli.output.results:StorageQuota",
    ),
    Command(
        "admin groups lock", "groups:lock_group", "Lock a group", "admin groups lock test_group",
        result="cli.output.results:GroupState",
    ),
    Command(
        "admin groups unlock", "groups:unlock_group", "Let a locked group be used again",
        "admin groups unlock test_group", result="cli.output.results:GroupState",
    ),
    Command(
        "admin groups delete", "groups:delete_group", "Delete a group for ever",
        "admin groups delete test_group", result="cli.output.results:GroupState",
    ),
    Command("logout", "users:logout", "End this session", "logout",
        result="cli.output.results:NamedUser",
    ),
    Command(
        "login", "login:login", "Log in as a user", "login alice",
        secret=True,
        usage="[USERNAME [PASSWORD]] [OPTIONS]",
        result="cli.output.results:UserRights",
    ),
    Command(
        "manage task update-labels", "tasks:update_labels", "Replace the labels of a task",
        f"manage task {_TASK} update-labels mobile video",
        also=("tasks update-labels",), usage="[LABELS]...", result="contract.commands:Changed",
    ),
    Command(
        "manage task change", "tasks:change_task", "Change how a task will run",
        f"manage task {_TASK} change --terminal -- echo world",
        also=("tasks change",), usage="[OPTIONS] [-- COMMAND...]",
        result="contract.commands:Changed",
    ),
    Command(
        "manage task erase-secrets", "secrets:erase_secrets",
        "Destroy the secret variables of a task",
        f"manage task {_TASK} erase-secrets",
        also=("tasks erase-secrets",), usage="[OPTIONS]", result="contract.commands:Changed",
    ),
    Command(
        "tasks artifacts upload", "artifacts:upload_file", "Upload an artifact to a task",
        f"tasks artifacts upload local.tar.gz {_TASK} result",
        result="contract.commands:UploadedArtifact",
    ),
    Command(
        "tasks artifacts delete", "artifacts:delete_artifact", "Delete an artifact of a task",
        f"tasks artifacts delete {_TASK} result",
        also=("admin tasks artifacts delete",), result="contract.commands:Done",
    ),
    Command(
        "groups attachments get", "attachments:attachment_meta",
        "Get the metadata of an attachment",
        "groups attachments get -g test_group attachment_key",
        result="contract.queries:AttachmentView",
    ),
    Command(
        "groups attachments download", "attachments:download_attachment",
        "Download an attachment of a group",
        "groups attachments download -g test_group attachment_key",
        result="client.downloads:Downloaded",
    ),
    Command(
        "groups attachments query", "attachments:query_attachments",
        "Query a list of attachments subject to the filter",
        "groups attachments query -g test_group -k attachment",
        result="contract.queries:AttachmentPage",
    ),
    Command(
        "groups attachments delete", "attachments:delete_attachment",
        "Delete an attachment of a group",
        "groups attachments delete -g test_group attachment_key",
        also=("admin groups attachments delete",), result="contract.commands:Done",
    ),
    Command("quit", "interactive:leave", "Quit the client's interactive mode", "quit"),
)  # fmt: skip

# What the groups of commands are for. The seed's top level, in the order in which help lists it:
SEED_GROUPS = {
    "auth": "",
    "create": "Create a new user or group",
    "get": "Get a task, artifact, attachment, worker or group, or a list of them",
    "submit": "",
    "upload": "Upload an artifact or attachment",
    "manage": "Manage a worker, a task or a group",
    "manage worker": "Manage a worker",
    "manage task": "Manage a task",
    "manage group": "Manage the members of a group",
    "shutdown": "",
    "quit": "",
    "help": "",
}
GROUPS = {
    **SEED_GROUPS,
    "events": "Read and check the history of events, and say which forms they have",
    "history": "Show everything that happened to a thing: who, when, from where, why",
    "projections": "Rebuild and verify the read models in Postgres",
    "config": "Show and check the settings",
    "tasks": "Submit, query and manage tasks",
    "tasks artifacts": "Upload, download and delete the outputs of tasks",
    "workers": "Query and manage workers",
    "groups": "Query and manage groups",
    "groups attachments": "Upload, download, query and delete the files of a group",
    "users": "Query and manage your own account",
    "admin": "Manage the platform",
    "admin users": "Manage the accounts of users",
    "admin groups": "Manage the groups of all users",
    "admin groups attachments": "Manage the files of all groups",
    "admin tasks": "Manage the tasks of all users",
    "admin tasks artifacts": "Manage the outputs of all tasks",
    "admin workers": "Manage the workers of all users",
}


def spelled(words: list[str], name: str = "") -> list[str]:
    """Return a path as one types it: in a group of `NAMED`, with the name before the verb."""
    head = " ".join(words[:-1])
    return [*words[:-1], name or NAMED[head], words[-1]] if head in NAMED else words


def named_by(commands: tuple[Command, ...], words: list[str]) -> str:
    """Return the path of the command that a line begins with; empty: it begins with none."""
    for count in range(min(len(words), LONGEST_PATH), 0, -1):
        path = " ".join(words[:count])
        if any(path == command.path or path in command.also for command in commands):
            return path
    return ""


def listed(commands: tuple[Command, ...]) -> dict[str, tuple[Command, str]]:
    """Return command and example by path, in the order of the tables, the seed's paths first."""
    first = {c.path: (c, c.example) for c in commands}
    return first | {
        path: (c, example)
        for c in commands
        for path, example in c.examples().items()
        if path not in first
    }
