# shellcheck shell=bash
# What scripts/check.sh, scripts/demo.sh and packaging/build-*.sh share: packages,
# builds, and private PostgreSQL clusters.  Sourced, never run:
#
#     . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#
# source_root   top of the source tree
# build_root    where everything is built; STRANDD_BUILD_ROOT overrides build/
#
# Functions say what they do on standard output and leave with `die` when they
# cannot.  `return 0`, not `return`: in an EXIT trap the bare one gives back the
# script's own status.  Nothing is written outside build_root and the directories given.

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
build_root=${STRANDD_BUILD_ROOT:-$source_root/build}

# shellcheck disable=SC2034  # used by those who source this file
build_packages=(build-essential autoconf automake libtool pkg-config libpq-dev libjson-c-dev
	libconfig-dev liburcu-dev libmicrohttpd-dev libsmartcols-dev libsystemd-dev check)
# shellcheck disable=SC2034
server_packages=(postgresql-15 postgresql-client-15)
# what the handlers of examples/ run on
# shellcheck disable=SC2034
handler_packages=(python3)
# shellcheck disable=SC2034
test_packages=(python3 python3-psycopg2 python3-pytest python3-pytest-xdist
	python3-pytest-timeout clang curl)
# shellcheck disable=SC2034
deb_packages=(debhelper dpkg-dev)
# shellcheck disable=SC2034
rpm_packages=(rpm)
# shellcheck disable=SC2034
package_packages=("${deb_packages[@]}" "${rpm_packages[@]}" lintian systemd)

say()
{
	printf '%s\n' "$*"
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# plain_path VARIABLE PATH: ends the script unless PATH, which VARIABLE says, is
# one that configure, make and all they call take as it is.
plain_path()
{
	[[ ! $2 =~ ^/[[:alnum:]/._+,@-]*$ ]] || return 0
	printf '%s: cannot work in "%s": %s\n' "${0##*/}" "$2" \
		"set $1 to an absolute path of letters, digits and . _ + , @ - only" >&2
	exit 2
}

# short_path DIR: ends the script when a socket in DIR had too long a path.
short_path()
{
	[ ${#1} -le 80 ] || die "$1: too long a path for a Unix socket"
}

# end_group PID SECONDS: TERM to all of the process group that PID leads, KILL
# when it has not ended by then.
end_group()
{
	local left=$(($2 * 20))

	kill -TERM -- "-$1" 2>/dev/null || return 0
	while kill -0 -- "-$1" 2>/dev/null; do
		if [ $((left--)) -le 0 ]; then
			kill -KILL -- "-$1" 2>/dev/null
			return 0
		fi
		sleep 0.05
	done
}

# --- packages ---------------------------------------------------------------

is_installed()
{
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

apt_install()
{
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -q --no-install-recommends "$@" >>"$build_root/apt.log" 2>&1 ||
		{ tail -n 20 "$build_root/apt.log" >&2; die "apt-get could not install: $*"; }
}

# Installs server packages without the "main" cluster that Debian would create
# and start: one line in createcluster.conf says so while apt-get runs, and the
# file is put back afterwards, whatever happens.
install_server()
{
	local conf=/etc/postgresql-common/createcluster.conf
	local saved r=0

	is_installed postgresql-common || apt_install postgresql-common
	saved=$(mktemp "$build_root/createcluster.XXXXXX")
	cp "$conf" "$saved"
	(
		trap 'as_root cp "$saved" "$conf"; rm -f "$saved"' EXIT
		trap 'exit 130' INT TERM
		echo 'create_main_cluster = false' | as_root tee -a "$conf" >/dev/null
		apt_install "$@"
	) || r=$?
	[ $r = 0 ] || exit $r
}

# need_packages PACKAGE...: installs those that are missing, and says so first.
need_packages()
{
	local missing=() servers=() package

	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		say "Not a Debian system: expecting the like of: $*"
		return 0
	fi
	for package in "$@"; do
		is_installed "$package" && continue
		missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "Installing with apt-get: ${missing[*]}"
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		die "install them as root first: apt-get install --no-install-recommends ${missing[*]}"
	fi
	mkdir -p "$build_root"
	as_root apt-get update -q >>"$build_root/apt.log" 2>&1 ||
		say "apt-get update failed; going on with the package lists at hand"
	for package in "${missing[@]}"; do
		case $package in
		postgresql-[0-9]*) servers+=("$package") ;;
		esac
	done
	if [ ${#servers[@]} -gt 0 ]; then
		install_server "${servers[@]}"
	fi
	apt_install "${missing[@]}"
}

# --- builds -----------------------------------------------------------------

# Runs a step of a build with temporary files in build_root: autoreconf and the
# compilers leave theirs behind when they are killed.
in_build_tmp()
{
	local r=0

	mkdir -p "$build_root/tmp"
	TMPDIR=$build_root/tmp "$@" || r=$?
	rm -rf "$build_root/tmp"
	return $r
}

# copy_source DIR [tar option...]: copies the sources, without anything that was
# built in place, to DIR, which is made if it is missing.
copy_source()
{
	local stage=$1
	shift

	mkdir -p "$stage"
	tar -C "$source_root" -cf - --exclude-vcs --exclude=./build --exclude='*.o' --exclude='*.a' \
		--exclude='*.lo' --exclude='*.la' --exclude=.libs --exclude=./libtool --exclude=./strand.pc \
		--exclude=.deps --exclude=.dirstamp --exclude=__pycache__ --exclude=.pytest_cache \
		--exclude=./Makefile --exclude=./Makefile.in --exclude=./configure \
		--exclude=./aclocal.m4 --exclude=./build-aux --exclude=./autom4te.cache \
		--exclude=./config.status --exclude=./config.log --exclude=sql_embed.c \
		--exclude=./strandd --exclude=./strandctl --exclude=./tests/integration/drive_client \
		--exclude=./tests/integration/drive_handler --exclude=./tests/integration/drive_listener \
		--exclude=./examples/c/decide --exclude=./examples/c/publish \
		--exclude=./examples/trading/alpha/alpha "$@" . | tar -C "$stage" -xf - ||
		die "cannot copy the sources to $stage"
}

# Copies the sources to build_root/source and makes configure there, so that the
# checkout stays as it is, and may be read-only or configured in place.
stage_source()
{
	local stage=$build_root/source

	copy_source "$stage"
	if [ "$stage/configure.ac" -nt "$stage/configure" ] ||
	   [ "$stage/Makefile.am" -nt "$stage/Makefile.in" ]; then
		(cd "$stage" && in_build_tmp autoreconf -fi) >"$build_root/autoreconf.log" 2>&1 ||
			{ cat "$build_root/autoreconf.log" >&2; die "autoreconf failed"; }
	fi
}

# build_tree DIR [configure argument...]: configures and builds in DIR, anew if
# the arguments differ from those of last time.  DIR/build.log has the output.
build_tree()
{
	local dir=$1
	shift
	stage_source
	mkdir -p "$dir"
	if ! {
		if [ ! -f "$dir/Makefile" ] || [ "$(cat "$dir/configured" 2>/dev/null)" != "$*" ] ||
		   [ "$build_root/source/configure" -nt "$dir/config.status" ]; then
			(cd "$dir" && in_build_tmp "$build_root/source/configure" -q "$@") &&
				printf '%s\n' "$*" >"$dir/configured"
		fi && in_build_tmp make -C "$dir" -j"$(nproc)"
	} >"$dir/build.log" 2>&1; then
		tail -n 40 "$dir/build.log" >&2
		die "the build in $dir failed; see $dir/build.log"
	fi
}

# --- private clusters -------------------------------------------------------

# The newest server's programs.
pg_bin()
{
	local dir

	for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5 -n -r) \
		"$(pg_config --bindir 2>/dev/null)"; do
		if [ -x "$dir/initdb" ]; then
			printf '%s\n' "$dir"
			return 0
		fi
	done
	die "no PostgreSQL server found: install postgresql-15"
}

# initdb refuses root: whom the server runs as.
cluster_user()
{
	if [ "$(id -u)" != 0 ]; then
		id -un
	elif id postgres >/dev/null 2>&1; then
		echo postgres
	else
		echo nobody
	fi
}

as_cluster_user()
{
	local user

	if [ "$(id -u)" != 0 ]; then
		"$@"
		return 0
	fi
	user=$(cluster_user)
	setpriv --reuid="$user" --regid="$(id -gn "$user")" --clear-groups \
		env -u XDG_RUNTIME_DIR HOME="$cluster_home" "$@"
}

# cluster_start DIR [name=value...]: a new cluster in DIR (created if missing,
# short enough for a socket's path), reachable through a Unix socket in DIR
# only, by its owner and root only.  Superuser "postgres".  Exports PGHOST,
# PGPORT and PGUSER.  The settings go to postgresql.conf.
cluster_start()
{
	local dir=$1 bin setting
	shift
	bin=$(pg_bin) || exit
	short_path "$dir"
	[ ! -e "$dir/data" ] || die "$dir/data is already there"
	mkdir -p "$dir"
	dir=$(cd "$dir" && pwd -P)
	cluster_home=$dir
	chmod 0700 "$dir"
	[ "$(id -u)" != 0 ] || chown "$(cluster_user):" "$dir"
	if ! (cd "$dir" && as_cluster_user "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 \
		--locale=C.UTF-8 --no-sync --no-instructions) >"$dir/initdb.log" 2>&1; then
		cat "$dir/initdb.log" >&2
		die "initdb failed"
	fi
	{
		printf "listen_addresses = ''\n"
		printf "unix_socket_directories = '%s'\n" "${dir//\'/\'\'}"
		printf 'port = 5432\n'
		for setting in "$@"; do
			printf "%s = '%s'\n" "${setting%%=*}" "${setting#*=}"
		done
	} >>"$dir/data/postgresql.conf"
	if ! (cd "$dir" && as_cluster_user "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" \
		-w -t 60 -s start) >"$dir/start.log" 2>&1 </dev/null; then
		cat "$dir/start.log" "$dir/server.log" >&2
		die "the private PostgreSQL did not start"
	fi
	export PGHOST=$dir PGPORT=5432 PGUSER=postgres
}

# cluster_stop DIR: stops the cluster if it runs.  Its files stay: the caller
# made DIR and removes it.
cluster_stop()
{
	local dir=$1 bin

	[ -f "$dir/data/postmaster.pid" ] || return 0
	bin=$(pg_bin) || return 1
	cluster_home=$dir
	(
		cd "$dir" || exit 1
		as_cluster_user "$bin/pg_ctl" -D "$dir/data" -w -t 20 -s -m fast stop ||
			as_cluster_user "$bin/pg_ctl" -D "$dir/data" -w -t 20 -s -m immediate stop
	) >/dev/null 2>&1 </dev/null
}
