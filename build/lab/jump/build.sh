#!/bin/bash
# usage: build/lab/jump/build.sh OUT
#
# Builds the products with a clock that can be set for one process alone, so
# that the lab can have one host's wall clock jump while the machine's, and all
# others, go on. The products' source is as it is: the standard library's
# time.Now is replaced in this build, and one file is added to platform/clock,
# which reads from a file how far to shift it. Monotonic time is not touched,
# as no jump of a wall clock touches it.
set -euo pipefail
out=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
# The copy of time.go begins with _, lest go takes it for a package of ours.
mkdir -p "$out"
out=$(cd "$out" && pwd)
std=$(go env GOROOT)/src/time/time.go

sed -e 's/^\tsec, nsec, mono := runtimeNow()$/&\n\tsec += LabShift.Load()/' \
	-e '0,/^import (/s//import (\n\t"sync\/atomic"/' "$std" >"$out/_time.go"
printf '\n// LabShift is how far Now is off, in seconds.\nvar LabShift atomic.Int64\n' >>"$out/_time.go"
if [ "$(grep -c 'sec += LabShift.Load()' "$out/_time.go")" != 1 ]; then
	echo "$0: time.Now of this Go is written otherwise than this script knows: adapt it" >&2
	exit 1
fi
cat >"$out/overlay.json" <<JSON
{"Replace": {"$std": "$out/_time.go", "$root/platform/clock/shift.go": "$here/shift.go.txt"}}
JSON
cd "$root"
exec env CGO_ENABLED=0 go build -trimpath -overlay "$out/overlay.json" -o "$out/" ./app/cmd/stile ./tunnel/cmd/stiled ./tunnel/cmd/stile-server
