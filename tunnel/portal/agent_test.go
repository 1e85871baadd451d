package portal

import "testing"

func TestUserAgents(t *testing.T) {
	for _, c := range []struct {
		text string
		want Agent
		ok   bool
	}{
		{"Ubuntu/24.4.0 headless-client/1.5.11 (x86_64; 6.8.0-45-generic)", Agent{Headless, Version{1, 5, 11}, "Ubuntu", "24.4.0"}, true},
		{"Windows/10.0.22631 gui-client/1.5.16 (x86_64)", Agent{GUI, Version{1, 5, 16}, "Windows", "10.0.22631"}, true},
		{"Alpine Linux/3.20.3 gateway/1.6.0 (aarch64; 6.1.0) stile/0.1.0", Agent{GatewayProgram, Version{1, 6, 0}, "Alpine Linux", "3.20.3"}, true},
		{"Debian/12.0.0 connlib/1.4.7 (x86_64; 6.1.0)", Agent{GUI, Version{1, 4, 7}, "Debian", "12.0.0"}, true},
		{"Mac OS/14.1 connlib/1.4.7", Agent{Apple, Version{1, 4, 7}, "Mac OS", "14.1"}, true},
		{"iOS/17.0 apple-client/1.5.19", Agent{Apple, Version{1, 5, 19}, "iOS", "17.0"}, true},
		{"Android/14 connlib/1.4.7", Agent{Android, Version{1, 4, 7}, "Android", "14"}, true},
		{"relay/0.1.0", Agent{RelayProgram, Version{0, 1, 0}, "relay", "0.1.0"}, true},
		{"Debian/12 headless-client/unknown", Agent{Headless, Version{}, "Debian", "12"}, true},
		{"Debian/12 headless-client/1.5.11-rc1+abc", Agent{Headless, Version{1, 5, 11}, "Debian", "12"}, true},
		{"curl/8.0", Agent{"", Version{}, "curl", "8.0"}, false},
		{"", Agent{}, false},
	} {
		if got, ok := ParseUserAgent(c.text); got != c.want || ok != c.ok {
			t.Errorf("ParseUserAgent(%q) = %+v %v, want %+v %v", c.text, got, ok, c.want, c.ok)
		}
	}
}

// Spec portal.md 1.7: gateway ≥ M.(m-1).0 and < M.(m+2).0.
func TestCompatibleReleases(t *testing.T) {
	for _, c := range []struct {
		client, gateway string
		want            bool
	}{
		{"1.5.11", "1.6.0", true}, {"1.5.11", "1.4.0", true}, {"1.5.0", "1.3.9", false}, {"1.5.11", "1.7.0", false},
		{"1.4.7", "1.4.7", true}, {"1.4.7", "1.6.0", false}, {"1.0.0", "1.0.0", true}, {"1.5.0", "2.5.0", false},
		{"1.5.0", "", false}, {"", "1.6.0", false}, {"", "", false},
	} {
		if got := compatible(ParseVersion(c.client), ParseVersion(c.gateway)); got != c.want {
			t.Errorf("client %q with gateway %q: %v, want %v", c.client, c.gateway, got, c.want)
		}
	}
}

func FuzzUserAgent(f *testing.F) {
	f.Add("Ubuntu/24.4.0 headless-client/1.5.11 (x86_64; 6.8.0-45-generic)")
	f.Add("connlib/1.2.3-/ gateway/")
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := ParseUserAgent(s)
		if ok != (a.Component != "") {
			t.Fatalf("%q: %+v %v", s, a, ok)
		}
		if a.Version != (Version{}) && ParseVersion(a.Version.String()) != a.Version {
			t.Fatalf("%q: version %v does not read back", s, a.Version)
		}
	})
}
