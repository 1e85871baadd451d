#!/bin/bash
# fuzz.sh TIME: runs every fuzz target for TIME; stops at the first finding,
# whose input go test leaves in testdata/fuzz of the package.
set -e
for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
    echo "== ./$(dirname "$file") $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "./$(dirname "$file")"
  done
done
