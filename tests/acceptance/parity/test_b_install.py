"""Installing `mito` in every way that the documents name, from this source."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cyclopts
import pytest

from mitosis._version import __version__

ROOT = Path(__file__).parents[3]
INSTALL = (ROOT / "docs" / "install.md").read_text()
NEXT = "99.1.0"
SOURCES = ("mitosis", "pyproject.toml", "README.md", "LICENSE", "docs/install.md")


def run(*command: str | Path, cwd: Path | None = None, **env: str) -> str:
    """Run a command; return what it printed."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Environment(NamedTuple):
    """A fresh environment that sees the dependencies of this one, but not this `mitosis`."""

    folder: Path

    @property
    def mito(self) -> Path:
        """The command in it."""
        return self.folder / "bin" / "mito"

    def pip(self, *arguments: str | Path) -> str:
        """Run the pip of this interpreter on it: nothing comes from the network."""
        quiet = ("--disable-pip-version-check", "--no-input")
        python = ("--python", self.folder / "bin" / "python")
        home = str(self.folder)
        return run(sys.executable, "-m", "pip", *quiet, *python, *arguments, HOME=home)

    def install(self, source: str | Path, *more: str) -> None:
        """`pip install SOURCE`."""
        alone = ("--no-deps", "--no-index", "--no-build-isolation", "--no-compile")
        self.pip("install", *alone, *more, source)

    def version(self) -> str:
        """What the command says of itself."""
        return run(self.mito, "--version").strip()


def see_dependencies(folder: Path) -> None:
    """Let an environment find what this one has, behind its own packages, but not `mitosis`."""
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    for entry in Path(cyclopts.__file__).parents[1].iterdir():
        if "mitosis" not in entry.name:  # also not what an editable installation leaves
            (dependencies / entry.name).symlink_to(entry)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(f"{dependencies}\n")


class Workshop:
    """A repository with this source, a wheel of it, and one of a later version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        for name in SOURCES:
            source, target = ROOT / name, self.repository / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, target, ignore=ignored)
            else:
                shutil.copy(source, target)
        self._git("init", "--quiet", "--initial-branch=main")
        self._commit("this version")
        self.builder = self.environment("builder")
        # The one thing that comes by pip from outside: what builds the package.
        needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
        self.builder.pip("install", "--quiet", *needed)
        self.wheel = self._build(self.repository)
        later = folder / "later"
        shutil.copytree(self.repository, later, ignore=shutil.ignore_patterns(".git", "build"))
        version = later / "mitosis" / "_version.py"
        version.write_text(version.read_text().replace(__version__, NEXT))
        self.later = self._build(later)

    def environment(self, name: str) -> Environment:
        """Make a fresh environment, without a pip of its own."""
        folder = self.folder / name
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        if name != "builder":
            see_dependencies(folder)
            site = next(folder.glob("lib/python*/site-packages"))
            tools = next((self.folder / "builder").glob("lib/python*/site-packages"))
            (site / "builder.pth").write_text(f"{tools}\n")
        return Environment(folder)

    def _build(self, source: Path) -> Path:
        made = self.folder / f"wheel-{source.name}"
        self.builder.pip(
            "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", made, source
        )
        (wheel,) = made.glob("mitosis-*.whl")
        return wheel

    def _commit(self, message: str) -> None:
        self._git("add", "--all")
        self._git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", message)

    def _git(self, *arguments: str) -> None:
        run("git", *arguments, cwd=self.repository, HOME=str(self.folder))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("workshop")
    yield Workshop(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parity("S-015")
def test_the_installer_puts_a_pinned_version_on_the_path(
    workshop: Workshop, tmp_path: Path
) -> None:
    script, home = ROOT / "deploy" / "install.sh", tmp_path / "home"
    home.mkdir()
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_COMPILE": "1",
        "PYTHON": sys.executable,
    }
    run("sh", script, workshop.wheel, HOME=str(home), **offline)
    folder = home / ".local" / "bin"
    see_dependencies(home / ".local" / "lib" / "mitosis")
    path = f"{folder}:/usr/bin:/bin"
    assert run("sh", "-c", "mito --version", PATH=path).strip() == f"mito {__version__}"
    assert "Usage: mito coordinator" in run("sh", "-c", "mito coordinator --help", PATH=path)
    run("sh", script, workshop.later, HOME=str(home), **offline)
    assert run("sh", "-c", "mito --version", PATH=path).strip() == f"mito {NEXT}"
    run("sh", script, "-u", HOME=str(home))
    assert not (folder / "mito").exists()
    assert not (home / ".local" / "lib" / "mitosis").exists()


@pytest.fixture(scope="module")
def installed(workshop: Workshop) -> Environment:
    """An environment with the wheel in it."""
    made = workshop.environment("installed")
    made.install(workshop.wheel)
    return made


@pytest.mark.parity("S-016")
def test_the_command_can_be_copied_to_a_system_path(installed: Environment, tmp_path: Path) -> None:
    system = tmp_path / "usr" / "local" / "bin"
    system.mkdir(parents=True)
    run("install", "-m", "755", installed.mito, system / "mito")
    path = f"{system}:/usr/bin:/bin"
    assert run("sh", "-c", "mito --version", PATH=path).strip() == f"mito {__version__}"
    assert "[coordinator]" in run("sh", "-c", "mito config example", PATH=path)


@pytest.mark.parity("S-017")
def test_pip_install_into_a_fresh_environment_gives_the_command(installed: Environment) -> None:
    assert installed.version() == f"mito {__version__}"
    python = installed.folder / "bin" / "python"
    code = "import mitosis; print(mitosis.__file__, mitosis.MitoClient.__name__)"
    said = run(python, "-P", "-c", code)
    assert said.startswith(f"{installed.folder}/")
    assert said.strip().endswith("MitoClient")


@pytest.mark.parity("S-018")
@pytest.mark.parity("S-019")
def test_installing_again_upgrades_and_uninstalling_removes(
    workshop: Workshop, installed: Environment
) -> None:
    """The last one that uses this environment."""
    made = installed
    assert made.version() == f"mito {__version__}"
    made.install(workshop.later, "--upgrade")
    assert made.version() == f"mito {NEXT}"
    made.pip("uninstall", "--yes", "mitosis")
    assert not made.mito.exists()
    site = next(made.folder.glob("lib/python*/site-packages"))
    assert list(site.glob("mitosis*")) == []


@pytest.mark.parity("S-020")
def test_the_newest_source_is_installed_from_git(workshop: Workshop) -> None:
    made = workshop.environment("from-git")
    made.install(f"git+file://{workshop.repository}")
    assert made.version() == f"mito {__version__}"


@pytest.mark.parity("S-021")
def test_a_clone_is_installed(workshop: Workshop, tmp_path: Path) -> None:
    clone = tmp_path / "mitosis"
    run("git", "clone", "--quiet", workshop.repository, clone)
    made = workshop.environment("from-clone")
    made.install(clone)
    assert made.version() == f"mito {__version__}"
    schema = next(made.folder.glob("lib/python*/site-packages/mitosis/projections/schema"))
    assert list(schema.glob("*.sql"))  # what is no Python came along


@pytest.mark.parity("S-022")
def test_what_is_needed_to_build_is_documented_as_the_package_says_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    version = project["project"]["requires-python"].removeprefix(">=")
    assert f"| Python | {version} or newer" in INSTALL
    assert "the package is pure Python" in INSTALL
    assert "setuptools" in project["build-system"]["requires"][0]
    assert not list((ROOT / "mitosis").rglob("*.c"))


@pytest.mark.parity("S-023")
def test_build_failures_of_old_systems_have_their_fix() -> None:
    _, _, table = INSTALL.partition("## When it does not work")
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", table, re.MULTILINE)[1:]
    assert len(rows) >= 5
    said = "\n".join(map(" ".join, rows))
    for word in ("3.10", "externally-managed-environment", "Failed building wheel", "2.28",
                 "build-essential"):  # fmt: skip
        assert word in said


@pytest.mark.parity("S-024")
def test_there_is_a_guide_for_those_who_contribute() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    assert "## Set up" in guide
    assert "(CONTRIBUTING.md)" in (ROOT / "README.md").read_text()
