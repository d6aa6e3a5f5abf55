# shellcheck shell=bash
# What packaging/build-deb.sh and packaging/build-rpm.sh share.  Sourced by them,
# with the script's arguments.
#
# version   that of configure.ac
# outdir    where the packages go
# scratch   a new directory in outdir, removed at the end
#
# The checkout may be read-only: nothing but outdir is written.
set -u -o pipefail
umask 022

# shellcheck source-path=SCRIPTDIR source=../scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

kind=${0##*/build-}
kind=${kind%.sh}

usage()
{
	cat <<END
usage: packaging/build-$kind.sh [--no-check] [DIRECTORY]

Makes a .$kind and prints its path.  It is put into DIRECTORY, by default
build/packages, beside $kind.log, what the build said.  Needs no root, except to
install what is missing, which it says first.

  --no-check   leave out the unit tests
END
}

outdir=
check=true
# shellcheck disable=SC2034  # those who source this file use it
for argument in "$@"; do
	case $argument in
	--no-check) check=false ;;
	-h | --help) usage; exit 0 ;;
	-*) usage >&2; exit 2 ;;
	*) [ -z "$outdir" ] || { usage >&2; exit 2; }; outdir=$argument ;;
	esac
done
if [ -z "$outdir" ]; then
	plain_path STRANDD_BUILD_ROOT "$build_root"
	outdir=$build_root/packages
fi
mkdir -p "$outdir" && outdir=$(cd "$outdir" && pwd -P) || exit 1
plain_path DIRECTORY "$outdir"
# what need_packages writes goes there, too
[ -n "${STRANDD_BUILD_ROOT:-}" ] || [ -w "$source_root" ] || build_root=$outdir

version=$(sed -n 's/^AC_INIT(\[strandd\], \[\([0-9.]*\)\])$/\1/p' "$source_root/configure.ac")
[ -n "$version" ] || die "no version found in configure.ac"

scratch=
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
scratch=$(mktemp -d "$outdir/.$kind.XXXXXX") || exit 1

# stage DIR: copies the sources there, where outdir may be among them.
stage()
{
	local own=()

	case $scratch in
	"$source_root"/*) own=(--exclude=".${scratch#"$source_root"}") ;;
	esac
	copy_source "$1" "${own[@]}"
}

# logged COMMAND...: runs a step of the build; says what it said if it fails.
logged()
{
	TMPDIR=$scratch "$@" >"$outdir/$kind.log" 2>&1 </dev/null ||
		{ tail -n 40 "$outdir/$kind.log" >&2; die "$1 failed; see $outdir/$kind.log"; }
}

# keep FILE...: moves the packages to outdir and prints their paths.
keep()
{
	local file

	for file in "$@"; do
		[ -f "$file" ] || die "no package was made; see $outdir/$kind.log"
		mv "$file" "$outdir/" || exit 1
		say "$outdir/${file##*/}"
	done
}
