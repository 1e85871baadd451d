#!/bin/bash
# changelog.sh: prints CHANGELOG.md. A commit says what a user notices in a
# trailer: "Changelog: Added: …", "Changed:", "Fixed:", "Removed:" or "Security:".
echo "# Changelog"
echo
echo "What a user notices, newest first. Written by \`make changelog\` from the commits."
version=$(sed -n 's/^.*Version = "\(.*\)"/\1/p' build/stamp/stamp.go)
echo
echo "## $version"
for kind in Security Added Changed Fixed Removed; do
  lines=$(git log --format='%(trailers:key=Changelog,valueonly,unfold)' | sed -n "s/^$kind: */- /p")
  [ -z "$lines" ] || printf '\n### %s\n\n%s\n' "$kind" "$lines"
done
