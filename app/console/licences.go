package console

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"strconv"

	"stile/assets"
)

// A licence is how a module of ours may be used.
type licence struct {
	ID, Module, Version, Kind string
	Texts                     []string
}

// licences lists the modules that build/licences found, in the versions that
// are built in. One without a version is of the service, or of another system.
func licences() []licence {
	text, err := assets.Console.ReadFile("console/licences.json")
	if err != nil {
		panic(err) // built in
	}
	var f struct {
		Modules []struct {
			Path, Kind string
			Texts      []int
		}
		Texts []string
	}
	if err := json.Unmarshal(text, &f); err != nil {
		panic(err) // of our own making
	}
	versions := map[string]string{"std": runtime.Version()}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, m := range b.Deps {
			versions[m.Path] = m.Version
		}
	}
	var list []licence
	for i, m := range f.Modules {
		l := licence{ID: "module-" + strconv.Itoa(i), Module: m.Path, Version: versions[m.Path], Kind: m.Kind}
		if m.Path == "std" {
			l.Module = "Go"
		}
		for _, t := range m.Texts {
			l.Texts = append(l.Texts, f.Texts[t])
		}
		list = append(list, l)
	}
	return list
}
