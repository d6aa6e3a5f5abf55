#!/bin/sh
# Makes the completion of strandctl for bash from what the program itself says of its
# commands and options.  Usage: completion.sh PROGRAM > strandctl
set -eu

LC_ALL=C
export LC_ALL
unset ARGP_HELP_FMT

program=$1

# What may follow: commands, or the words that a command's usage begins with.
words() {
	if [ $# -eq 0 ]; then
		"$program" --help | sed -n '/^Commands:$/,$s/^  \([a-z][a-z-]*\).*/\1/p'
	else
		"$program" "$1" --help | sed -n 's/^\(Usage\|  or\): *strandctl [a-z-]* \[OPTION\.\.\.\] \([a-z][a-z-]*\).*/\2/p'
	fi
}

# Options, a line each, as their help has them: --tag=TAG, -t=TABLE.  A short one bears
# no argument there, but the long one behind it does.
options() {
	"$program" "$@" --help | awk '/^ +-/ {
		sub(/^ +/, ""); sub(/   *[^ -].*/, "")
		n = split($0, names, ", ")
		argument = names[n] ~ /=/ ? names[n] : ""
		sub(/^[^=]*/, "", argument)
		for (i = 1; i <= n; i++) { sub(/[[=].*/, "", names[i]); print names[i] argument }
	}'
}

# The words of standard input in one line.
line() {
	tr '\n' ' ' | sed 's/ $//'
}

long() {
	options "$@" | sed -n 's/^\(--[^=]*=\{0,1\}\).*/\1/p' | line
}

# Of all commands' options: those that take an argument of this kind (of any, without).
taking() {
	for command in '' $(words); do
		# shellcheck disable=SC2086  # no command is no argument
		options $command
	done | sed -n "s/^\([^=]*\)=${1:-.*}\$/\1/p" | sort -u | tr '\n' '|' | sed 's/|$//'
}

commands=$(words | line)
test -n "$commands" || { echo "completion.sh: $program names no commands" >&2; exit 1; }

cat <<END
# bash completion for strandctl.  Made from the program's own help by completion.sh.

_strandctl_options()
{
	case \$1 in
END
for command in $commands; do
	echo "	$command) echo '$(long "$command")' ;;"
done
cat <<END
	*) echo '$(long)' ;;
	esac
}

_strandctl_words()
{
	case \$1 in
	'') echo '$commands' ;;
END
for command in $commands; do
	verbs=$(words "$command" | line)
	test -z "$verbs" || echo "	$command) echo '$verbs' ;;"
done
cat <<END
	esac
}

_strandctl_takes_argument()
{
	case \$1 in
	$(taking)) return 0 ;;
	esac
	return 1
}

_strandctl()
{
	local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} command='' verb='' i

	# bash parts words at the = of --config=FILE
	if [[ \$cur == '=' ]]; then
		cur=''
	elif [[ \$prev == '=' ]]; then
		prev=\${COMP_WORDS[COMP_CWORD - 2]}
	fi
	for ((i = 1; i < COMP_CWORD; i++)); do
		if _strandctl_takes_argument "\${COMP_WORDS[i]}"; then
			[[ \${COMP_WORDS[i + 1]} == '=' ]] && ((i++))
			((i++))
		elif [[ \${COMP_WORDS[i]} != -* && -z \$command ]]; then
			command=\${COMP_WORDS[i]}
		elif [[ \${COMP_WORDS[i]} != -* ]]; then
			verb=\${COMP_WORDS[i]}
		fi
	done
	COMPREPLY=()
	case \$prev in
	$(taking FILE))
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "\$cur")
		return ;;
	esac
	if _strandctl_takes_argument "\$prev"; then
		return
	elif [[ \$cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "\$(_strandctl_options "\$command")" -- "\$cur")
		[[ \${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
	elif [[ -z \$verb ]]; then
		mapfile -t COMPREPLY < <(compgen -W "\$(_strandctl_words "\$command")" -- "\$cur")
	fi
	return 0
}

complete -F _strandctl strandctl
END
