#!/bin/bash
# Makes strandd's .deb, and the one with its debugging symbols, with debhelper.
# --help says more.  The same sources give the same bytes.

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tree=$scratch/strandd-$version

# debian/ is packaging/debian/ with what is in packaging/ for both packages.
make_tree()
{
	local given file

	stage "$tree"
	cp -R "$tree/packaging/debian" "$tree/debian" || exit 1
	for file in service sysusers; do
		cp "$tree/packaging/strandd.$file" "$tree/debian/" || exit 1
	done
	given=$(cd "$tree" && dpkg-parsechangelog -S Version) || exit 1
	[ "${given%-*}" = "$version" ] ||
		die "packaging/debian/changelog says $given, configure.ac $version: begin an entry for $version-1"
}

need_packages "${build_packages[@]}" "${deb_packages[@]}"
make_tree
if ! $check; then
	export DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:+$DEB_BUILD_OPTIONS }nocheck"
	export DEB_BUILD_PROFILES="${DEB_BUILD_PROFILES:+$DEB_BUILD_PROFILES }nocheck"
fi
cd "$tree" || exit 1
logged dpkg-buildpackage -us -uc -b
keep "$scratch"/*.deb
