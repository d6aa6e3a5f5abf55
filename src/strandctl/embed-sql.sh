#!/bin/sh
# Turns SQL files into one C file: an array of { name, text, length } that ends
# with a NULL name.  Usage: embed-sql.sh FILE... > sql_embed.c
set -eu

LC_ALL=C
export LC_ALL

cat <<'END'
/* Made by embed-sql.sh from sql/; edit those files, not this one. */
#include "strandctl/sql_embed.h"

END

n=0
for file in "$@"; do
	test -r "$file" || { echo "embed-sql.sh: $file: cannot read" >&2; exit 1; }
	n=$((n + 1))
	printf 'static const char text_%d[] =\n' "$n"
	echo '	""'
	sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/	"/' -e 's/$/\\n"/' "$file"
	printf '\t;\n\n'
done

printf 'const struct sql_file sql_files[] = {\n'
n=0
for file in "$@"; do
	n=$((n + 1))
	printf '\t{ "%s", text_%d, sizeof(text_%d) - 1 },\n' "${file##*/}" "$n" "$n"
done
printf '\t{ 0 },\n};\n'
