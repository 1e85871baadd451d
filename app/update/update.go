// Package update finds out whether there is a newer release (spec
// desktop-client.md 22). It tells; it never installs.
package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"stile/app/menu"
	"stile/build/stamp"
	"stile/platform/program"
)

const (
	askTime  = 30 * time.Second
	maxReply = 64 << 10 // bytes
)

// Check asks base, "https://releases.example.com", for the newest release. The
// zero Update means that there is none newer than this program.
func Check(ctx context.Context, base string) (menu.Update, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	base, here := strings.TrimSuffix(base, "/"), program.Here()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/releases", nil)
	if err != nil {
		return menu.Update{}, err
	}
	q.Header.Set("User-Agent", fmt.Sprintf("Stile/%s (%s; %s)", stamp.Version, here.OS, here.Arch))
	q.Header.Set("Accept", "application/json")
	reply, err := http.DefaultClient.Do(q)
	if err != nil {
		return menu.Update{}, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return menu.Update{}, fmt.Errorf("the server answers %s", reply.Status)
	}
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxReply+1))
	if err != nil {
		return menu.Update{}, err
	}
	latest, err := parse(body)
	if err != nil || !newer(latest, stamp.Version) {
		return menu.Update{}, err
	}
	return menu.Update{Version: latest, URL: address(base, latest, here)}, nil
}

// parse returns the version of the newest release, without "v".
func parse(body []byte) (string, error) {
	if len(body) > maxReply {
		return "", errors.New("the list of releases is too long")
	}
	var list struct {
		App string `json:"gui"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return "", fmt.Errorf("the list of releases makes no sense: %w", err)
	}
	version := strings.TrimPrefix(list.App, "v")
	if !semver.IsValid("v"+version) || len(version) > 100 {
		return "", fmt.Errorf("the list of releases has no version of the app, but %.40q", list.App)
	}
	return version, nil
}

// newer reports whether a version comes after another. A pre-release comes
// before its release, and nobody who runs a release is offered one.
func newer(version, than string) bool {
	if semver.Prerelease("v"+version) != "" && semver.Prerelease("v"+than) == "" {
		return false
	}
	return semver.Compare("v"+version, "v"+than) > 0
}

// address is where a release can be downloaded for a machine.
func address(base, version string, to program.System) string {
	kind := ""
	if to.Package != "" {
		kind = "." + to.Package
	}
	return fmt.Sprintf("%s/dl/stile-%s/%s/%s%s", base, to.OS, version, to.Arch, kind)
}
