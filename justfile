# Recipes for people who work on Mitosis; `just` comes with the extra `test`.

bin := if env("VIRTUAL_ENV", "") != "" { env("VIRTUAL_ENV") / "bin" } else { justfile_directory() / ".venv/bin" }

[private]
default:
    @just --list --unsorted

# Make .venv with everything, so that changes are seen at once
setup:
    python3 -m venv .venv
    .venv/bin/pip install --editable '.[test]'

# Run the whole platform in a scratch folder with a small campaign
demo *args:
    {{ bin }}/mito demo {{ args }}

# Keep a platform running on this machine
up *args:
    {{ bin }}/mito up {{ args }}

# The quick tests: rules and properties, no services
test *args:
    {{ bin }}/pytest tests/unit tests/properties {{ args }}

# All tests, the long ones at full size
test-all *args:
    {{ bin }}/pytest --full {{ args }}

# The table of docs/parity.md: pass, fail or missing per row (--sabotage: break the code row by row)
parity *args:
    {{ if args =~ "^--sabotage" { bin / "python -m mitosis.testing.sabotage " + trim_start_match(args, "--sabotage") } else { bin / "python -m pytest -q -m parity --parity-strict tests " + args } }}

# Lint, format and import directions
lint:
    {{ bin }}/ruff check .
    {{ bin }}/ruff format --check .
    {{ bin }}/lint-imports --no-cache

# Bring the format in order
fmt:
    {{ bin }}/ruff check --fix .
    {{ bin }}/ruff format .

# Types, strictly
types:
    {{ bin }}/mypy

# Measure everything (--quick: a minute; --peers VENV; --json FILE; SECTION ...: only these)
bench *args:
    {{ bin }}/python -m bench {{ args }}

# Make a virtual environment with what `just bench --peers` compares with
bench-peers venv:
    python3 -m venv {{ venv }}
    {{ venv }}/bin/pip install --quiet --requirement bench/peers/requirements.txt
    @echo "redis-server, parallel and task-spooler are system packages, as of Debian:"
    @echo "  apt-get install --no-install-recommends redis-server parallel task-spooler"

# Write flame graphs of our processes under load to a folder (py-spy is needed)
bench-flame *args:
    {{ bin }}/python -m bench.flame {{ args }}

# Measure how long the verification of a history takes (--events N, 1,000,000)
bench-proof *args:
    {{ bin }}/python -m bench.proof {{ args }}

# Run many mixed tasks (--tasks N, 20,000): the worker stays as fit, the ledger is exact
soak *args:
    {{ bin }}/python -m bench.soak {{ args }}

# Kill, freeze and cut off everything while a campaign runs, then check all (--minutes N --seed S)
chaos *args:
    {{ bin }}/python -m mitosis.testing.chaos {{ args }}

# Bring the generated parts of docs/ up to date
docs:
    {{ bin }}/python -m mitosis.testing.reference docs

# Write the pages of the SDK to build/api
api-docs:
    {{ bin }}/python -m pdoc -d google -o build/api \
        mitosis.client.client mitosis.client.blocking mitosis.config.client mitosis.errors \
        mitosis.contract.commands mitosis.contract.queries mitosis.domain.roles mitosis.domain.task
