#!/bin/bash
# Builds and tests everything, from a bare checkout on Debian 12, as root or
# with sudo for what apt-get must install.
#
#   scripts/check.sh            the lanes that every change must pass
#   scripts/check.sh --full     the long ones too
#   scripts/check.sh LANE...    only these, of those listed by --help
#
# Everything is built and kept in build/ (or $STRANDD_BUILD_ROOT); nothing else
# is written.  Tests run on private PostgreSQL clusters; root drops to another
# user for them.  The last line is `N passed, N failed`.
set -u -o pipefail

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

quick_lanes=(gcc integration clang thread address package)
full_lanes=(distcheck fuzz long thread-all address-all)

passed=0
failed=0
job=
python=/usr/bin/python3

usage()
{
	cat <<END
usage: scripts/check.sh [--full] [LANE...]
  gcc          build with gcc, unit tests
  integration  integration tests on that build
  clang        build with clang, unit tests
  thread       ThreadSanitizer: unit tests, integration tests marked sanitize
  address      AddressSanitizer and UndefinedBehaviorSanitizer: the same
  package      builds the .deb and the .rpm, installs and removes them in a chroot
with --full also
  distcheck    make distcheck
  fuzz         each fuzzer of tests/fuzz for a minute (\$STRANDD_FUZZ_SECONDS), from its corpus
  long         integration tests marked long
  thread-all   all integration tests but the long ones with ThreadSanitizer
  address-all  the same with the other two
END
}

fault()
{
	failed=$((failed + 1))
	say "FAILED: $*"
}

# --- what the runners said --------------------------------------------------

# count_unit DIR: adds up the closing lines of the Check programs.
count_unit()
{
	local dir=$1 log name line checks failures errors n=0

	for log in "$dir"/tests/unit/*.log; do
		[ -e "$log" ] || continue
		n=$((n + 1))
		name=$(basename "$log" .log)
		line=$(grep -E '^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+$' "$log" | tail -n 1)
		if [ -z "$line" ]; then
			tail -n 30 "$log"
			fault "$name ended without a result"
			continue
		fi
		say "$name: $line"
		read -r checks failures errors <<<"$(tr -c '0-9\n' ' ' <<<"${line#*%}")"
		passed=$((passed + checks - failures - errors))
		failed=$((failed + failures + errors))
		if [ $((failures + errors)) -gt 0 ]; then
			cat "$log"
		elif ! grep -q '^:test-result: PASS' "${log%.log}.trs"; then
			# such as a sanitizer's report after the last test
			tail -n 60 "$log"
			fault "$name passed its tests and then failed"
		fi
	done
	[ $n -gt 0 ] || fault "no unit test ran in $dir"
}

# count_pytest LOG STATUS: adds up pytest's closing line.
count_pytest()
{
	local log=$1 status=$2 line word number rest bad=0

	line=$(grep -E '^=* ?([0-9]+ [a-z]+(, )?)+ in [0-9.]+s' "$log" | tail -n 1)
	say "${line:-pytest ended without a result}"
	rest=$(sed -e 's/^=* *//' -e 's/ in [0-9].*//' <<<"$line")
	while read -r number word; do
		case $word in
		passed | xpassed) passed=$((passed + number)) ;;
		failed | error | errors) bad=$((bad + number)) ;;
		esac
	done < <(tr ',' '\n' <<<"$rest")
	failed=$((failed + bad))
	# 5: nothing was selected, so nothing was tested
	if [ "$status" -ne 0 ] && [ $bad -eq 0 ]; then
		tail -n 40 "$log"
		fault "pytest exited with $status"
	elif [ "$status" -ne 0 ]; then
		cat "$log"
	fi
}

# --- building blocks of lanes -----------------------------------------------

# build NAME [configure argument...]: in a subshell, because build_tree exits.
build()
{
	local dir=$build_root/$1
	shift
	(build_tree "$dir" "$@") || { fault "build in $dir"; return 1; }
	# In builds with --enable-werror nothing but errors ends a build.
	if grep -E '(^|[^a-z])warning: ' "$dir/build.log"; then
		fault "warnings in $dir/build.log"
	fi
}

unit_tests()
{
	local dir=$build_root/$1
	shift
	rm -f "$dir"/tests/unit/*.log "$dir"/tests/unit/*.trs
	"$@" make -C "$dir" -j"$(nproc)" check >"$dir/check.log" 2>&1 ||
		[ -e "$dir/test-suite.log" ] || tail -n 40 "$dir/check.log"
	count_unit "$dir"
}

# run_pytest DIR TIMEOUT MARKS TESTS PREFIX...: runs the tests of a folder, with
# its files in DIR; the prefix runs pytest.
run_pytest()
{
	local dir=$1 timeout=$2 marks=$3 tests=$4 log=$1/pytest.log status
	shift 4
	(
		cd "$source_root" || exit
		export PYTHONDONTWRITEBYTECODE=1
		exec "$@" "$python" -m pytest -n "${jobs:-2}" -q -ra -p no:cacheprovider --rootdir . \
			--basetemp "$dir/pytest" --timeout "$timeout" -m "$marks" "$tests"
	) >"$log" 2>&1 </dev/null
	status=$?
	rm -rf "$dir/pytest"
	grep '^SKIPPED' "$log"
	count_pytest "$log" $status
}

# integration_tests NAME MARKS TIMEOUT PREFIX...: those of one build.
integration_tests()
{
	local dir=$build_root/$1 marks=$2 timeout=$3
	shift 3
	run_pytest "$dir" "$timeout" "$marks" tests/integration env "STRANDD_BUILD=$dir" "$@"
}

# Prefixes of what the sanitizer lanes run.  Stack use after return is not looked
# for: gcc 12 then misaligns over-aligned locals, and the other sanitizer reports it.
address_options=(env CK_TIMEOUT_MULTIPLIER=10
	ASAN_OPTIONS="${ASAN_OPTIONS-strict_string_checks=1}"
	UBSAN_OPTIONS="${UBSAN_OPTIONS-print_stacktrace=1}")
thread_options=(env CK_TIMEOUT_MULTIPLIER=10
	TSAN_OPTIONS="${TSAN_OPTIONS-second_deadlock_stack=1}")
# Resident memory is no measure under a sanitizer, which multiplies it.
but_memory=(env PYTEST_ADDOPTS="--deselect tests/integration/test_exact_forged.py::test_a_million_notifications_while_workers_are_held")
# ThreadSanitizer's shadow does not suit every random layout of a newer kernel.
if setarch -R true 2>/dev/null; then
	thread_options=(setarch -R "${thread_options[@]}")
fi

# --- lanes ------------------------------------------------------------------

build_gcc()
{
	build gcc CC=gcc --enable-werror --enable-failpoints
}

build_thread()
{
	build thread CC=gcc --enable-werror --enable-failpoints --enable-sanitizer=thread
}

build_address()
{
	build address CC=gcc --enable-werror --enable-failpoints --enable-sanitizer=address
}

lane_gcc()
{
	build_gcc || return
	unit_tests gcc
	make -C "$build_root/gcc" bench >>"$build_root/gcc/build.log" 2>&1 ||
		{ tail -n 20 "$build_root/gcc/build.log"; fault "make bench"; }
}

lane_integration()
{
	# Most of the tests wait most of the time; under a sanitizer they do not.
	local jobs=4

	build_gcc || return
	integration_tests gcc 'not long' 180 env
}

lane_clang()
{
	build clang CC=clang --enable-werror || return
	unit_tests clang
	make -C "$build_root/clang" bench >>"$build_root/clang/build.log" 2>&1 ||
		{ tail -n 20 "$build_root/clang/build.log"; fault "make bench with clang"; }
}

lane_thread()
{
	build_thread || return
	unit_tests thread "${thread_options[@]}"
	integration_tests thread 'sanitize and not long' 300 "${thread_options[@]}"
}

lane_address()
{
	build_address || return
	unit_tests address "${address_options[@]}"
	integration_tests address 'sanitize and not long' 300 "${address_options[@]}"
}

lane_package()
{
	local dir=$build_root/packages kind

	rm -rf "$dir"
	for kind in deb rpm; do
		"$source_root/packaging/build-$kind.sh" --no-check "$dir" || { fault "the .$kind"; return; }
	done
	run_pytest "$dir" 600 '' tests/package env "STRANDD_PACKAGES=$dir"
}

lane_distcheck()
{
	local log=$build_root/gcc/distcheck.log

	build_gcc || return
	if make -C "$build_root/gcc" distcheck DISTCHECK_CONFIGURE_FLAGS=--enable-werror >"$log" 2>&1; then
		grep -A 1 'archives ready' "$log"
		passed=$((passed + 1))
	else
		tail -n 40 "$log"
		fault "make distcheck"
	fi
}

lane_fuzz()
{
	local target dir=$build_root/fuzz seconds=${STRANDD_FUZZ_SECONDS:-60}

	build fuzz CC=clang --enable-werror --enable-fuzzers || return
	for target in conf tags answer; do
		mkdir -p "$dir/found/$target"
		if "$dir/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -print_final_stats=1 \
			-artifact_prefix="$dir/found/$target-" "$dir/found/$target" \
			"$source_root/tests/fuzz/corpus/$target" >"$dir/fuzz_$target.log" 2>&1; then
			say "fuzz_$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/fuzz_$target.log") inputs in $seconds s"
			passed=$((passed + 1))
		else
			tail -n 40 "$dir/fuzz_$target.log"
			fault "fuzz_$target; what broke it is in $dir/found"
		fi
	done
}

lane_long()
{
	build_gcc || return
	integration_tests gcc 'long' 3600 env
}

lane_thread-all()
{
	build_thread || return
	integration_tests thread 'not long' 3600 "${thread_options[@]}" "${but_memory[@]}"
}

lane_address-all()
{
	build_address || return
	integration_tests address 'not long' 3600 "${address_options[@]}" "${but_memory[@]}"
}

# --- all --------------------------------------------------------------------

# Ends what still runs.  Tests stop their servers when they are told to end.
finish()
{
	local status=$?

	trap '' INT TERM HUP
	trap - EXIT
	if [ -n "$job" ]; then
		say "Interrupted: stopping everything"
		end_group "$job" 30
		rm -rf "$build_root/tmp" "$build_root"/*/pytest
	fi
	exit "$status"
}

run_lanes()
{
	local lane start

	for lane in "$@"; do
		start=$SECONDS
		say "== $lane"
		"lane_$lane"
		say "-- $lane: $((SECONDS - start)) s"
	done
	say "$passed passed, $failed failed"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

main()
{
	local lanes=() full=false lane status

	for lane in "$@"; do
		case $lane in
		--full) full=true ;;
		-h | --help) usage; exit 0 ;;
		*)
			[ "$(type -t "lane_$lane")" = function ] || { usage >&2; exit 2; }
			lanes+=("$lane")
			;;
		esac
	done
	if [ ${#lanes[@]} -eq 0 ]; then
		lanes=("${quick_lanes[@]}")
		! $full || lanes+=("${full_lanes[@]}")
	fi

	plain_path STRANDD_BUILD_ROOT "$build_root"
	mkdir -p "$build_root"
	need_packages "${build_packages[@]}" "${server_packages[@]}" "${test_packages[@]}"
	[[ " ${lanes[*]} " != *" package "* ]] || need_packages "${package_packages[@]}"
	# A process group of their own: a signal finds this shell waiting, not in
	# the middle of a command, and it then ends them all.
	set -m
	run_lanes "${lanes[@]}" </dev/null &
	set +m
	job=$!
	wait "$job"
	status=$?
	job=
	return $status
}

trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
main "$@"
