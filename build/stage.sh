#!/bin/bash
# stage.sh NAME COMMAND...: runs a stage of the build and prints how long it took.
name=$1; shift
start=$(date +%s)
"$@"; rc=$?
printf '%s: %s (%d s)\n' "$name" "$([ $rc = 0 ] && echo ok || echo FAILED)" $(($(date +%s) - start))
exit $rc
