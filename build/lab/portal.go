//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// ask runs a command of the portal on its host and returns what it prints.
func (d *deployment) ask(ctx context.Context, input string, args ...string) (string, error) {
	c := d.portal.Command(ctx, server, append([]string{"portal"}, append(args, "--config", portalConfig)...)...)
	c.Stdin = strings.NewReader(input)
	var complaint bytes.Buffer
	c.Stderr = &complaint
	out, err := d.portal.Output(c)
	if err != nil {
		return "", fmt.Errorf("stile-server portal %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return string(out), nil
}

// token makes a token, or returns the one made before.
func (d *deployment) token(ctx context.Context, args ...string) (string, error) {
	kind := args[0]
	if t, made := d.tokens[kind]; made {
		return t, nil
	}
	out, err := d.ask(ctx, "", append([]string{"token", "create"}, args...)...)
	if err != nil {
		return "", err
	}
	words := strings.Fields(out)
	if len(words) == 0 {
		return "", fmt.Errorf("token create %v prints nothing", args)
	}
	if d.tokens == nil {
		d.tokens = map[string]string{}
	}
	d.tokens[kind] = words[len(words)-1]
	return d.tokens[kind], nil
}

// A portalStatus is what the lab reads of "portal status --json".
type portalStatus struct {
	Running  bool       `json:"running"`
	Clients  []presence `json:"clients"`
	Gateways []presence `json:"gateways"`
	Relays   []struct {
		Name string `json:"name"`
	} `json:"relays"` // those online
}

// A presence tells of a client or a gateway whether it is connected.
type presence struct {
	Online bool `json:"online"`
}

// hasClient, hasGateway and hasRelay tell whether one is online.
func (s portalStatus) hasClient() bool  { return slices.ContainsFunc(s.Clients, presence.online) }
func (s portalStatus) hasGateway() bool { return slices.ContainsFunc(s.Gateways, presence.online) }
func (s portalStatus) hasRelay() bool   { return len(s.Relays) > 0 }

func (p presence) online() bool { return p.Online }

func (d *deployment) status(ctx context.Context) (status portalStatus, err error) {
	out, err := d.ask(ctx, "", "status", "--json")
	if err != nil {
		return status, err
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return status, fmt.Errorf("portal status --json prints %q: %w", out, err)
	}
	return status, nil
}

// shows returns a check that the running portal shows something.
func (d *deployment) shows(what func(portalStatus) bool) func(context.Context) error {
	return func(ctx context.Context) error {
		status, err := d.status(ctx)
		if err == nil && !what(status) {
			err = fmt.Errorf("the portal's status does not show it yet: %+v", status)
		}
		return err
	}
}
