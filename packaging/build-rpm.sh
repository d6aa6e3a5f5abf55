#!/bin/bash
# Makes strandd's .rpm with rpmbuild, for the distribution on which it runs: the
# libraries are those.  On Debian that makes it a trial of the spec file.
# --help says more.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The date of Debian's changelog stands for the sources', as in the .deb.
source_epoch()
{
	local day

	day=$(sed -n 's/^ -- .*>  //p' "$source_root/packaging/debian/changelog" | head -n 1)
	date -d "$day" +%s
}

make_spec()
{
	local user spec

	user=$(grep '^u ' "$source_root/packaging/strandd.sysusers") || die "no user in packaging/strandd.sysusers"
	spec=$(cat "$source_root/packaging/strandd.spec.in") || exit 1
	spec=${spec//@VERSION@/$version}
	printf '%s\n' "${spec//@SYSUSERS@/$user}" >"$scratch/strandd.spec"
}

make_tarball()
{
	stage "$scratch/strandd-$version"
	tar -C "$scratch" -czf "$scratch/strandd-$version.tar.gz" --owner=0 --group=0 --numeric-owner \
		--mtime="@$SOURCE_DATE_EPOCH" --sort=name "strandd-$version" || die "cannot pack the sources"
	rm -rf "$scratch/strandd-$version"
}

options=(-bb --define "_topdir $scratch/rpm" --define "_sourcedir $scratch" --define "_rpmdir $scratch/rpms"
	--define "_tmppath $scratch"
	--define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1"
	--define "_buildhost localhost")
$check || options+=(--without check)
# On Debian the packages that are needed have other names, and rpm has no flags for
# the compiler that keep the place of the build out of what it makes.
if command -v dpkg-query >/dev/null; then
	options+=(--nodeps)
	export CFLAGS="-O2 -g -ffile-prefix-map=$scratch/rpm/BUILD=."
fi

need_packages "${build_packages[@]}" "${rpm_packages[@]}"
: "${SOURCE_DATE_EPOCH:=$(source_epoch)}"
export SOURCE_DATE_EPOCH
make_spec
make_tarball
logged rpmbuild "${options[@]}" "$scratch/strandd.spec"
keep "$scratch"/rpms/*/*.rpm
