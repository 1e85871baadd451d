#!/bin/bash
# changelog.sh: prints CHANGELOG.md. A commit says what a user notices in a
# trailer: "Changelog: Added: …", "Changed:", "Fixed:", "Removed:" or "Security:".
kinds="Security Added Changed Fixed Removed"
trailers=$(git log --format='%(trailers:key=Changelog,valueonly,unfold)')
if odd=$(grep -Ev "^((${kinds// /|}):|$)" <<<"$trailers"); then
  echo "changelog.sh: lines of no kind ($kinds):" "$odd" >&2
  exit 1
fi
echo "# Changelog"
echo
echo "What a user notices, newest first. Written by \`make changelog\` from the commits."
version=$(sed -n 's/^.*Version = "\(.*\)"/\1/p' build/stamp/stamp.go)
echo
echo "## $version"
for kind in $kinds; do
  lines=$(sed -n "s/^$kind: */- /p" <<<"$trailers")
  [ -z "$lines" ] || printf '\n### %s\n\n%s\n' "$kind" "$lines"
done
