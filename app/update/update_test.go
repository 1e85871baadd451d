package update

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/mod/semver"

	"stile/app/menu"
	"stile/build/stamp"
	"stile/platform/program"
)

func TestCheck(t *testing.T) {
	var reply string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/releases" || !strings.HasPrefix(r.UserAgent(), "Stile/"+stamp.Version+" (") {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(reply))
	}))
	defer s.Close()
	reply = `{"gui":"99.1.0","other":"1.0.0"}`
	u, err := Check(t.Context(), s.URL+"/")
	if err != nil || u.Version != "99.1.0" || !strings.HasPrefix(u.URL, s.URL+"/dl/stile-"+program.Here().OS+"/99.1.0/") {
		t.Error(u, err)
	}
	reply = `{"gui":"` + stamp.Version + `"}`
	if u, err := Check(t.Context(), s.URL); err != nil || u != (menu.Update{}) {
		t.Error(u, err)
	}
	for _, reply = range []string{"", "[]", "{}", `{"gui":7}`, `{"gui":"next"}`, `{"gui":"1.0.0 <script>"}`, strings.Repeat(" ", maxReply) + `{"gui":"99.0.0"}`} {
		if u, err := Check(t.Context(), s.URL); err == nil || u != (menu.Update{}) {
			t.Errorf("%.30q: %v", reply, u)
		}
	}
	if _, err := Check(t.Context(), s.URL+"/elsewhere"); err == nil {
		t.Error("a server that has no list")
	}
	s.Close()
	if _, err := Check(t.Context(), s.URL); err == nil {
		t.Error("no server")
	}
}

func TestNewer(t *testing.T) {
	for _, row := range []struct {
		version, than string
		want          bool
	}{
		{"1.0.0", "0.9.9", true}, {"0.10.0", "0.9.0", true}, {"1.0.0", "1.0.0", false}, {"0.9.0", "1.0.0", false},
		{"1.0.1-rc.1", "1.0.0", false}, {"1.0.0", "1.0.0-rc.1", true}, {"1.0.0-rc.2", "1.0.0-rc.1", true},
	} {
		if got := newer(row.version, row.than); got != row.want {
			t.Errorf("%+v", row)
		}
	}
}

func TestAddress(t *testing.T) {
	for to, want := range map[program.System]string{
		{OS: "linux", Arch: "amd64", Package: "deb"}: "https://r.example/dl/stile-linux/1.2.3/amd64.deb",
		{OS: "linux", Arch: "arm64", Package: "rpm"}: "https://r.example/dl/stile-linux/1.2.3/arm64.rpm",
		{OS: "windows", Arch: "amd64"}:               "https://r.example/dl/stile-windows/1.2.3/amd64",
	} {
		if got := address("https://r.example", "1.2.3", to); got != want {
			t.Error(got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"gui":"1.2.3"}`))
	f.Add([]byte(`{"gui":"v1.2.3-rc.1"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if v, err := parse(body); err == nil && (!semver.IsValid("v"+v) || strings.ContainsAny(v, " /\"<>&?#%")) {
			t.Errorf("%q", v)
		}
	})
}
