// Licences collects the licenses of all modules that are built into the
// programs of a desktop, for its page "About": go run ./build/licences [FILE].
// The result is part of the repository; a test of app/console tells when it
// lacks a module.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const usual = "assets/console/licences.json"

// A File is what the page reads. Texts are shared: many modules have the same.
type File struct {
	Modules []Module `json:"modules"`
	Texts   []string `json:"texts"`
}

// A Module is one with its licence: an identifier of SPDX, and which of Texts.
type Module struct {
	Path  string `json:"path"`
	Kind  string `json:"kind"`
	Texts []int  `json:"texts"`
}

func main() {
	path := usual
	if len(os.Args) > 1 {
		path = os.Args[1]
	}
	if err := write(path); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

func write(path string) error {
	modules := map[string]string{"std": filepath.Join(build.Default.GOROOT)}
	for _, system := range []string{"linux", "windows"} {
		if err := list(system, modules); err != nil {
			return err
		}
	}
	var f File
	for _, module := range sorted(modules) {
		m := Module{Path: module}
		names, err := texts(modules[module])
		if err != nil {
			return err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			s := strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n"))
			at := slices.Index(f.Texts, s)
			if at < 0 {
				at = len(f.Texts)
				f.Texts = append(f.Texts, s)
			}
			m.Texts = append(m.Texts, at)
			if k := kind(s); k != "" && !strings.Contains(m.Kind, k) {
				m.Kind = strings.TrimPrefix(m.Kind+" AND "+k, " AND ")
			}
		}
		if m.Kind == "" {
			return fmt.Errorf("%s in %s: no licence that is known", module, modules[module])
		}
		f.Modules = append(f.Modules, m)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "\t")
	e.SetEscapeHTML(false)
	if err := e.Encode(f); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// list adds the modules of the desktop's programs, and where they are.
func list(system string, modules map[string]string) error {
	c := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}", "stile/app/cmd/stile", "stile/tunnel/cmd/stiled")
	c.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("list the modules for %s: %w", system, err)
	}
	for line := range strings.Lines(string(out)) {
		if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			modules[path] = dir
		}
	}
	return nil
}

func sorted(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// texts are the files with a module's licence, and what must go with it.
func texts(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		stem := strings.ToUpper(strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".md"), ".txt"))
		if e.Type().IsRegular() && (strings.HasPrefix(stem, "LICENSE") || strings.HasPrefix(stem, "LICENCE") || stem == "COPYING" || stem == "NOTICE") && !strings.HasSuffix(stem, ".GO") {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, err
}

// kind recognises a text by what only it says.
func kind(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	switch {
	case strings.Contains(text, "Apache License Version 2.0"):
		return "Apache-2.0"
	case strings.Contains(text, "Mozilla Public License Version 2.0"), strings.Contains(text, "Mozilla Public License, version 2.0"):
		return "MPL-2.0"
	case strings.Contains(text, "Permission is hereby granted, free of charge"):
		return "MIT"
	case strings.Contains(text, "Permission to use, copy, modify, and/or distribute this software"), strings.Contains(text, "Permission to use, copy, modify, and distribute this software"):
		return "ISC"
	case strings.Contains(text, "Redistribution and use in source and binary forms") && (strings.Contains(text, "Neither the name") || strings.Contains(text, "may not be used to endorse") || strings.Contains(text, "may be used to endorse")):
		return "BSD-3-Clause"
	case strings.Contains(text, "Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	}
	return ""
}
