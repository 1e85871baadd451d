#!/bin/bash
# gofmt.sh: names the files that gofmt would change; fails if there are any.
files=$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l)
[ -z "$files" ] || { echo "run gofmt -w on:"; echo "$files"; exit 1; }
