# Stile. `make help` lists the targets.

SHELL   := /bin/bash
OUT     := build/out
BIN     := $(OUT)/bin
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
VERSION := $(shell sed -n 's/^.*Version = "\(.*\)"/\1/p' build/stamp/stamp.go)
LDFLAGS := -s -w -X stile/build/stamp.Commit=$(COMMIT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
PRODUCTS := ./app/cmd/stile ./tunnel/cmd/stiled ./tunnel/cmd/stile-server
TARGETS := linux/amd64 linux/arm64 windows/amd64 windows/arm64
STAGE   := build/stage.sh
SCENARIOS := world direct nat-direct nat-relay ipv6 cidr internet filters policy-removed \
	portal-restart relay-restart client-kill9 sign-out-in desktop settings flight-record why icmp tcp fragments \
	$(if $(filter 0,$(shell id -u)),readme) # each takes seconds, why a minute and a half; see also $(BIN)/lab list
LONG := server-dies gateway-restart gateway-upgrade hostile-client round-robin dns-outage # a quarter of an hour together

.PHONY: help build man lab demo test check unit desktop e2e jump bench fuzz sim cross package changelog clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' Makefile | expand -t12

build: ## build the products and the lab into build/out/bin
	@mkdir -p $(BIN)
	$(GOBUILD) -o $(BIN)/ $(PRODUCTS) ./build/lab

man: ## manual pages of the programs into build/out/man
	@mkdir -p $(OUT)/man
	@STILE_MAN=$(CURDIR)/$(OUT)/man SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(STAGE) man go test -count=1 -run '^TestManPage$$' ./app/cli ./tunnel/cmd/...

demo: build ## a small internet on this machine, and a private resource reached by name (CHECK=1: prove it and exit)
	$(BIN)/lab demo $(if $(CHECK),--check)

test: unit desktop e2e jump ## all tests: units with the race detector, then real programs in the lab

unit: ## unit, property, fuzz-corpus and simulation tests
	@$(STAGE) unit go test -race -timeout 9m ./...

desktop: build ## the app on a headless desktop: real menu, real clicks, its pages in a real browser
	@$(STAGE) desktop env STILE_BIN_DIR=$(CURDIR)/$(BIN) go test -count=1 -timeout 5m ./build/desktop
	@command -v chromium >/dev/null || echo "NOT TESTED IN A BROWSER: install the packages chromium and fonts-dejavu-core" >&2
	@$(STAGE) browser env STILE_BROWSER=1 go test -count=1 -timeout 5m -run Browser ./app/console

e2e: build ## real processes, TUN devices and kernels in network namespaces
	@$(STAGE) e2e $(BIN)/lab run $(SCENARIOS) --json

jump: build ## the same with wall clocks that jump by an hour on one host alone
	@$(STAGE) jump-build build/lab/jump/build.sh $(OUT)/jump
	@$(STAGE) jump $(BIN)/lab run clock-jump --bin-dir $(OUT)/jump --json

check: ## gofmt, vet, staticcheck, layers
	@$(STAGE) gofmt build/gofmt.sh
	@$(STAGE) vet go vet ./...
	@$(STAGE) staticcheck go tool staticcheck ./...
	@$(STAGE) layers go test -count=1 ./build/layers

cross: ## compile the products for every system
	@for t in $(TARGETS); do GOOS=$${t%/*} GOARCH=$${t#*/} $(STAGE) cross-$$t env CGO_ENABLED=0 go build -trimpath -o /dev/null ./platform/... ./tunnel/... ./app/... || exit 1; done

bench: build ## benchmarks, each beside a baseline in the same run
	go test -run '^$$' -bench . -benchmem ./tunnel/... ./platform/... ./app/...
	STILE_BIN_DIR=$(CURDIR)/$(BIN) go test -run '^$$' -bench App -benchtime 1x ./build/desktop
	$(BIN)/lab bench throughput --json
	$(BIN)/lab bench gateway --json

fuzz: ## every fuzz target for FUZZTIME (default 30s) each
	build/fuzz.sh $${FUZZTIME:-30s}

sim: build ## long runs: simulations with many seeds, then the long scenarios of the lab
	STILE_SIM_SEEDS=$${SEEDS:-5000} go test -count=1 -timeout 60m ./tunnel/sim/... ./tunnel/nat/... ./tunnel/gateway/... ./tunnel/path/...
	@$(STAGE) long $(BIN)/lab run $(LONG) --json

package: ## deb, rpm and MSI packages
	@echo "make package: the installers do not exist yet; copy the programs from build/out (make build) meanwhile" >&2; exit 1

changelog: ## write CHANGELOG.md from the Changelog trailers of the commits
	@text=$$(build/changelog.sh) && printf '%s\n' "$$text" > CHANGELOG.md

clean: ## remove what was built
	rm -rf $(OUT)
