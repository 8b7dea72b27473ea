#!/bin/sh
# Installs `mito` for one user, or with -p /usr/local for all: an environment of its own below
# PREFIX/lib/mitosis, and PREFIX/bin/mito. Run it again to upgrade; -u removes both.
#
#   sh install.sh [-p PREFIX] [SOURCE]      SOURCE is what pip takes: mitosis (the newest),
#                                           mitosis==0.1.0, a wheel, a folder, git+https://...
#   sh install.sh [-p PREFIX] -u
set -eu

prefix=$HOME/.local
remove=no
while getopts p:uh option; do
    case $option in
    p) prefix=$OPTARG ;;
    u) remove=yes ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; [ "$option" = h ] && exit 0; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
source=${1:-mitosis}
home=$prefix/lib/mitosis

if [ "$remove" = yes ]; then
    rm -rf "$home"
    rm -f "$prefix/bin/mito"
    echo "removed: $prefix/bin/mito"
    exit 0
fi

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "install.sh: $python is older than Python 3.11: name a newer one by PYTHON=..." >&2
    exit 1
}
mkdir -p "$prefix/bin" "$prefix/lib"
# The pip of the system, if it is new enough, saves a copy of its own in the environment.
if "$python" -m pip --python "$python" --version >/dev/null 2>&1; then
    [ -x "$home/bin/python" ] || "$python" -m venv --without-pip "$home"
    set -- "$python" -m pip --python "$home/bin/python"
else
    [ -x "$home/bin/python" ] || "$python" -m venv "$home"
    set -- "$home/bin/python" -m pip
fi
"$@" install --quiet --disable-pip-version-check --upgrade "$source"
ln -sf "$home/bin/mito" "$prefix/bin/mito"
"$prefix/bin/mito" --version
case ":$PATH:" in
*":$prefix/bin:"*) ;;
*) echo "install.sh: $prefix/bin is not in your PATH: add it, or call $prefix/bin/mito" >&2 ;;
esac
