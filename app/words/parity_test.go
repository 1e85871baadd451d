package words

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"stile/tunnel/ipc"
)

// same reports what a sentence lacks, or has too much, beside the English one.
func same(t *testing.T, tag, name, english, other string) {
	t.Helper()
	want, got := ipc.Places(english), ipc.Places(other)
	slices.Sort(want)
	slices.Sort(got)
	switch {
	case (english == "") != (other == ""):
		t.Errorf("%s: %s is %q, in English %q", tag, name, other, english)
	case !slices.Equal(want, got):
		t.Errorf("%s: %s has the places %q, in English %q", tag, name, got, want)
	case english == other && strings.Trim(english, "{}abcdefghijklmnopqrstuvwxyz") != "":
		t.Errorf("%s: %s is in English", tag, name)
	}
}

func TestEveryNoticeOfTheServiceIsSaid(t *testing.T) {
	for _, w := range languages[1:] {
		table := services[w.Tag]
		for n, english := range ipc.Notices() {
			same(t, w.Tag, string(n), english, table[n])
		}
		for n := range table {
			if ipc.Notices()[n] == "" {
				t.Errorf("%s: %s is no notice", w.Tag, n)
			}
		}
	}
}

func TestEveryCauseIsSaid(t *testing.T) {
	for _, y := range whys[1:] {
		for name, english := range englishWhy.Causes {
			same(t, y.Tag, name, english.Cause, y.Causes[name].Cause)
			same(t, y.Tag, name+", next", english.Next, y.Causes[name].Next)
		}
		for name, english := range englishWhy.Details {
			same(t, y.Tag, name, english, y.Details[name])
		}
		for table, list := range map[string][2]map[string]string{
			"ways": {englishWhy.Ways, y.Ways}, "outcomes": {englishWhy.Outcomes, y.Outcomes}, "conditions": {englishWhy.Conditions, y.Conditions},
		} {
			if keys := slices.Sorted(maps.Keys(list[0])); !slices.Equal(keys, slices.Sorted(maps.Keys(list[1]))) || slices.Contains(slices.Collect(maps.Values(list[1])), "") {
				t.Errorf("%s: other %s than in English", y.Tag, table)
			}
		}
		if len(y.Causes) != len(englishWhy.Causes) || len(y.Details) != len(englishWhy.Details) {
			t.Errorf("%s says more than English", y.Tag)
		}
	}
	for _, y := range whys {
		whole(t, y.Tag, reflect.ValueOf(*y))
	}
}

// A sentence of the service is said in the program's language if that knows it,
// whatever version the service is of.
func TestWhatTheServiceSays(t *testing.T) {
	more := ipc.SayPortalSilent.With("portal", "wss://{reason}")
	more.With["of-tomorrow"] = "x"
	for _, row := range []struct {
		p    *ipc.Problem
		want string
	}{
		{more, "Das Portal wss://{reason} antwortet nicht. Prüfen Sie das Netz; Stile versucht es von selbst erneut."},
		{ipc.SaySettingManaged.With("setting", ipc.SettingAPIURL), "„Adresse des Portals“ hat der Administrator dieses Computers festgelegt; das lässt sich hier nicht ändern. Wenden Sie sich an ihn."},
		{ipc.SaySettingManaged.With("setting", "of_tomorrow"), "„of_tomorrow“ hat der Administrator dieses Computers festgelegt; das lässt sich hier nicht ändern. Wenden Sie sich an ihn."},
		{ipc.SayTokenIsManaged.With("source", string(ipc.TokenFromFile)), "Der Administrator dieses Computers hat das Token festgelegt (in einer Datei). Wenden Sie sich an ihn, oder entfernen Sie es dort, um sich selbst an- oder abzumelden."},
		{&ipc.Problem{Code: ipc.PortalUnreachable, Text: "Of an older one."}, "Of an older one."},
		{&ipc.Problem{Code: "x", Text: "Of a newer one.", Say: "of-tomorrow", With: map[string]string{"a": "b"}}, "Of a newer one."},
		{&ipc.Problem{Code: ipc.PortalUnreachable, Text: "A place is missing.", Say: ipc.SayPortalSilent}, "A place is missing."},
	} {
		if got := German.Problem(row.p); got != row.want {
			t.Errorf("%q, want %q", got, row.want)
		}
		if got := English.Problem(row.p); got != row.p.Text {
			t.Errorf("%q, want %q", got, row.p.Text)
		}
	}
}
