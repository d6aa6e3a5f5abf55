#!/bin/bash
# The demonstration: three modules trade on paper, on real daily candles.  From
# a bare checkout on Debian 12, as root or with sudo for what apt-get must
# install.  --help says more.
#
# Everything is in one scratch directory: the build, a private PostgreSQL that
# listens on a Unix socket there and nowhere else, strandd's files.  Whatever
# ends this script, Ctrl-C included, ends them all and removes the directory.
# Long work runs in sessions of its own (setsid), so that Ctrl-C reaches this
# script alone and the script says what ends, and in which order.
set -u -o pipefail
umask 022

usage()
{
	cat <<END
usage: scripts/demo.sh [--keep]

Installs what is missing (and says so first), builds, starts a private
PostgreSQL, replays 20 years of the S&P 500 through three modules that strandd
connects, and shows what happened.  Leaves no process and no file behind,
except the packages.

  --keep   leave it running at the end, and say how to look around and how to
           stop it

\$STRANDD_BUILD_ROOT names a directory to build in and to keep, which makes a
second run quicker.
END
}

keep=false
for argument in "$@"; do
	case $argument in
	--keep) keep=true ;;
	-h | --help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
done

# nothing of the caller's own server
unset "${!PG@}"

scratch=${TMPDIR:-/tmp}/strandd-demo.$$.$RANDOM
pg=$scratch/pg
run=$scratch/run
rush_copies=8
job=
daemon=
kept=false

: "${STRANDD_BUILD_ROOT:=$scratch/build}"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=demo_report.sh
. "$(dirname "${BASH_SOURCE[0]}")/demo_report.sh"
plain_path TMPDIR "$scratch"
plain_path STRANDD_BUILD_ROOT "$build_root"
short_path "$pg"
example=$source_root/examples/trading
build=$build_root/demo

# --- the end ----------------------------------------------------------------

finish()
{
	local status=$?

	trap '' INT TERM HUP PIPE
	trap - EXIT
	if ! $kept; then
		[ ! -t 1 ] || printf '\r\033[K'
		[ "$status" -lt 128 ] || say "Interrupted: stopping everything"
		# stopped jobs' ends are no news to the terminal
		exec 2>/dev/null
		[ -z "$job" ] || end_group "$job" 5
		[ -z "$daemon" ] || end_group "$daemon" 10
		cluster_stop "$pg"
		rm -rf "$scratch"
	fi
	exit "$status"
}

trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

# --- on the screen ----------------------------------------------------------

if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\033[1m' plain=$'\033[0m'
else
	bold='' plain=''
fi

heading()
{
	printf '\n%s%s%s\n' "$bold" "$1" "$plain"
}

# A line that says what is being done now; on a terminal the next one replaces it.
now()
{
	if [ -t 1 ]; then
		printf '\r\033[K  %-11s %s' "$1" "$2"
	fi
}

step_done()
{
	[ ! -t 1 ] || printf '\r\033[K'
	printf '  %-11s %s\n' "$1" "$2"
}

# bar DONE ALL WIDTH
bar()
{
	local full=$(($1 * $3 / ($2 > 0 ? $2 : 1))) text='' i

	for ((i = 0; i < $3; i++)); do
		[ "$i" -lt "$full" ] && text+='█' || text+='░'
	done
	printf '%s' "$text"
}

# in_background COMMAND...: starts a job; `await WHAT` shows its progress by
# calling WHAT until it ends, and returns its status.
in_background()
{
	setsid "$@" </dev/null &
	job=$!
}

await()
{
	local status

	while kill -0 "$job" 2>/dev/null; do
		"$@"
		sleep 0.2
	done
	wait "$job"
	status=$?
	job=
	return $status
}

# --- steps ------------------------------------------------------------------

psql=(psql -X -q -At -v ON_ERROR_STOP=1 -d paper)

owner_sql()
{
	"${psql[@]}" -U trading_owner "$@"
}

say_building()
{
	now build "$SECONDS s"
}

compile()
{
	SECONDS=0
	# A shell of its own, because the build is to end with its process group.
	# shellcheck disable=SC2016
	in_background env STRANDD_BUILD_ROOT="$build_root" \
		bash -c '. "$1/scripts/lib.sh"; build_tree "$2"' demo.sh "$source_root" "$build"
	await say_building || exit 1
	step_done build "strandd and strandctl, in $SECONDS s"
}

start_server()
{
	local version

	now PostgreSQL starting
	mkdir -p "$pg" "$run"
	cluster_start "$pg"
	drop=()
	if [ "$(id -u)" = 0 ]; then
		user=$(cluster_user)
		drop=(setpriv "--reuid=$user" "--regid=$(id -gn "$user")" --clear-groups env "HOME=$pg")
		chown "$user:" "$run"
	fi
	version=$(psql -X -At -d postgres -c 'SHOW server_version')
	step_done PostgreSQL "${version%% *}, private; Unix socket in $pg"
}

# Three ordinary roles: the owner of the tables, strandd's, and alpha's.
make_database()
{
	local file

	now database "strandctl init"
	psql -X -q -d postgres -v ON_ERROR_STOP=1 \
		-c 'CREATE ROLE trading_owner LOGIN' -c 'CREATE ROLE strandd LOGIN' -c 'CREATE ROLE alpha LOGIN' \
		-c 'CREATE DATABASE paper OWNER trading_owner' || die "cannot make the database"
	dsn="host=$PGHOST port=$PGPORT dbname=paper user=trading_owner"
	"$build/strandctl" --dbname "$dsn" init --grant strandd >"$run/init.log" 2>&1 ||
		{ cat "$run/init.log" >&2; die "strandctl init failed"; }
	for file in "$example"/sql/*.sql; do
		owner_sql -f "$file" 2>"$run/sql.log" || { cat "$run/sql.log" >&2; die "$file failed"; }
	done
	owner_sql -o /dev/null -c "SELECT trading.grant_service('strandd'),
		trading.grant_producer('alpha'), strandd.grant_producer('alpha', 'ad_strands')" ||
		die "cannot grant what the roles need"
	owner_sql -c "COPY trading.candle (day, open, high, low, close, adjclose, volume)
		FROM STDIN (FORMAT csv, HEADER)" <"$example/data/sp500-2000.csv" ||
		die "cannot load the candles"
	candles=$(owner_sql -c 'SELECT count(*) FROM trading.candle')
	step_done database "strandctl init: 3 module tables, 5 routes; $(thousands "$candles") candles loaded"
}

start_strandd()
{
	local left=200

	now strandd starting
	# copies, because the originals may be where only root can go
	install -m 0755 "$build/strandd" "$example/trading.conf" "$run"
	install -D -m 0644 -t "$run/examples/trading" "$example"/*.py
	install -D -m 0644 -t "$run/examples/trading/data" "$example/data/sp500-2000.csv"
	install -D -m 0644 -t "$run/examples/python" "$source_root/examples/python/strand_handler.py"
	in_background env -C "$run" PGUSER=strandd "${drop[@]}" ./strandd --config trading.conf >"$run/strandd.log" 2>&1
	daemon=$job
	job=
	until grep -q serving "$run/strandd.log"; do
		if ! kill -0 "$daemon" 2>/dev/null || [ $((left--)) -le 0 ]; then
			cat "$run/strandd.log" >&2
			die "strandd did not start"
		fi
		sleep 0.05
	done
	step_done strandd "process $daemon, as user ${user:-$(id -un)} and as database role strandd"
}

# --- the market runs --------------------------------------------------------

say_replaying()
{
	local day number plans

	IFS='|' read -r day number plans < <(owner_sql -c "
		SELECT coalesce(max(plan_day)::text, ''),
			(SELECT count(*) FROM trading.candle c WHERE c.day <= max(b.plan_day)),
			(SELECT count(*) FROM trading.alpha_decision)
		FROM trading.book b") || return 0
	if [ -t 1 ]; then
		now replay "$day $(bar "$number" "$candles" 36) $(printf '%3d %%  %4d plans' \
			$((100 * number / candles)) "$plans")"
	elif [ $((100 * number / candles)) -ge "$next_line" ]; then
		step_done replay "$day, $((100 * number / candles)) %, $plans plans"
		next_line=$((100 * number / candles / 25 * 25 + 25))
	fi
}

say_rushing()
{
	local decided

	decided=$(owner_sql -c "SELECT count(*) FROM trading.alpha_decision WHERE account = 'rush'") || return 0
	now rush "$(thousands "$decided") plans decided"
}

replay()
{
	local days

	next_line=25
	in_background "${psql[@]}" -U alpha -c 'CALL trading.replay()' 2>"$run/replay.log"
	await say_replaying || { cat "$run/replay.log" >&2; die "the replay failed"; }
	days=$(owner_sql -F ' to ' -c 'SELECT min(day), max(day) FROM trading.candle')
	step_done replay "$days: $(owner_sql -c 'SELECT count(*) FROM trading.alpha_decision') plans, one day after the other"
}

# Over when every plan has been decided and every approved one reported to both.
rush()
{
	local plans

	now rush "writing plans"
	in_background "${psql[@]}" -U alpha -c "SELECT trading.rush(copies := $rush_copies)" \
		>"$run/rush" 2>"$run/rush.log"
	await say_rushing || { cat "$run/rush.log" >&2; die "the rush failed"; }
	plans=$(cat "$run/rush")
	in_background "${psql[@]}" -U trading_owner -c "DO \$\$ BEGIN
		WHILE (SELECT count(*) FROM trading.alpha_decision WHERE account = 'rush') < $plans
			OR (SELECT count(*) FROM trading.alpha_outcome) < (SELECT count(*) FROM trading.book)
			OR EXISTS (SELECT FROM trading.book WHERE reported_at IS NULL)
		LOOP PERFORM pg_sleep(0.05); END LOOP; END \$\$"
	await say_rushing || die "the rush failed"
	step_done rush "$(thousands "$plans") plans at once, on a second account"
}

# --- afterwards -------------------------------------------------------------

# The stop script is all that is left to find the demo by.
write_stop()
{
	cat >"$scratch/stop" <<END
#!/bin/sh
# Ends the demo that runs in $scratch, and removes it.
cd /
kill -TERM $daemon 2>/dev/null
while kill -0 $daemon 2>/dev/null; do sleep 0.1; done
${drop[*]} '$(pg_bin)/pg_ctl' -D '$pg/data' -w -s -m fast stop
rm -rf '$scratch'
END
	chmod 0755 "$scratch/stop"
}

show_around()
{
	local root='' path=$build

	[ "$(id -u)" != 0 ] || [ -z "${SUDO_USER:-}" ] || root='sudo '
	heading "Look around"
	if $keep; then
		cat <<END
  It is still running. The server's socket is in $pg, the
  superuser is postgres, the database paper.

  ${root}psql -h $pg -U postgres paper
      SELECT * FROM trading.result;         -- the accounts
      SELECT * FROM trading.learned;        -- alpha's hit rates
      SELECT * FROM trading.book LIMIT 10;  -- the Decision Maker's positions
      SELECT * FROM ad_strands LIMIT 10;    -- plans; then dm_strands, tr_strands
  ${root}$path/strandctl -d "host=$pg user=postgres dbname=paper" status
  ${root}python3 $example/broker.py $run/orders.sqlite
  ${root}curl --unix-socket $run/stats.sock http://localhost/metrics
  less $run/strandd.log

  Stop it and remove everything:
  ${root}$scratch/stop
END
	else
		cat <<END
  scripts/demo.sh --keep leaves all of this running and says how to reach it.
  examples/trading/README.md explains the rules and the handlers, README.md the
  rest: how to write a handler of your own, and what is promised.
END
	fi
}

main()
{
	say "${bold}strandd: three modules trade on 20 years of the S&P 500${plain}"
	say
	mkdir -m 0755 "$scratch" || { kept=true; die "cannot make $scratch"; }
	need_packages "${build_packages[@]}" "${server_packages[@]}" "${handler_packages[@]}"
	step_done packages "all there"
	compile
	start_server
	make_database
	start_strandd
	replay
	rush
	show_routes
	show_account
	show_trace
	if $keep; then
		write_stop
		kept=true
	fi
	show_around
}

main
