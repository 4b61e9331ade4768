#!/bin/bash
# source.sh PACKAGE FOLDER: unpacks the source of a Debian package to FOLDER, unless it is there; from the archives this machine
# uses, through lists of its own, so that nothing of the machine's is changed. What fails is said in the last line.
set -u
package=$1
folder=$2
[ ! -e "$folder/.whole" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/parts" "$work/source" "$(dirname "$folder")"
chmod -R a+rX "$work"
apt-get indextargets --format 'deb-src $(SITE) $(RELEASE) $(COMPONENT)' \
	'Created-By: Packages' 'Label: Debian' 'Component: main' | sort -u >"$work/sources.list"
options=(-o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=$work/parts" -o APT::Sandbox::User=root
	-o "Dir::State::Lists=$work/lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=")
if ! apt-get "${options[@]}" -qq update >"$work/log" 2>&1 ||
	! (cd "$work/source" && apt-get "${options[@]}" -qq source --download-only "$package" >>"$work/log" 2>&1); then
	echo "source.sh: $package: $(tail -n 1 "$work/log")"
	exit 1
fi
rm -rf "$folder"
if ! dpkg-source --no-check -x "$work"/source/*.dsc "$folder" >>"$work/log" 2>&1; then
	echo "source.sh: $package: $(tail -n 1 "$work/log")"
	exit 1
fi
touch "$folder/.whole"
