package support

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A secretMaker makes values of one form that must not be found in what is redacted.
type maker struct {
	name   string
	secret bool // not even in a full export
	// make returns the value as it stands in a text, and those parts of it that
	// must not be found; none: all of it.
	make func(g *generator) (value string, parts []string)
	// bare forms show by themselves what they are; others only where a field, or
	// what is around them, says so.
	bare bool
}

type generator struct{ *rand.Rand }

func (g *generator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// word is one that is in no text by chance.
func (g *generator) word() string {
	const consonants, vowels = "bcdfghjklmnprstvwz", "aeiou"
	w := make([]byte, 10)
	for i := range w {
		if i%2 == 0 {
			w[i] = consonants[g.IntN(len(consonants))]
		} else {
			w[i] = vowels[g.IntN(len(vowels))]
		}
	}
	return string(w)
}

func (g *generator) mac(sep string, each int) string {
	digits := hex.EncodeToString(append([]byte{0xa2}, g.bytes(5)...))
	var parts []string
	for ; len(digits) > 0; digits = digits[each:] {
		parts = append(parts, digits[:each])
	}
	return strings.Join(parts, sep)
}

func whole(f func(g *generator) string) func(*generator) (string, []string) {
	return func(g *generator) (string, []string) { s := f(g); return s, []string{s} }
}

var makers = []maker{
	{"token", true, func(g *generator) (string, []string) {
		nonce, fragment := hex.EncodeToString(g.bytes(32)), base64.RawURLEncoding.EncodeToString(g.bytes(48))
		return nonce + "." + fragment, []string{nonce, fragment}
	}, true},
	{"fragment", true, func(g *generator) (string, []string) {
		fragment := base64.RawURLEncoding.EncodeToString(g.bytes(48))
		return "." + fragment, []string{fragment}
	}, true},
	{"signed token", true, whole(func(g *generator) string {
		return "SFMyNTY." + base64.RawURLEncoding.EncodeToString(g.bytes(70)) + "." + base64.RawURLEncoding.EncodeToString(g.bytes(32))
	}), true},
	{"JWT", true, func(g *generator) (string, []string) {
		claims, mac := base64.RawURLEncoding.EncodeToString(g.bytes(50)), base64.RawURLEncoding.EncodeToString(g.bytes(32))
		return "eyJhbGciOiJIUzI1NiJ9." + claims + "." + mac, []string{claims, mac}
	}, true},
	{"key", true, whole(func(g *generator) string { return base64.StdEncoding.EncodeToString(g.bytes(32)) }), true},
	{"hexadecimal key", true, whole(func(g *generator) string { return hex.EncodeToString(g.bytes(32)) }), true},
	{"short hexadecimal key", true, whole(func(g *generator) string { return hex.EncodeToString(g.bytes(16)) }), true},
	{"random", true, whole(func(g *generator) string { return base64.RawURLEncoding.EncodeToString(g.bytes(36)) }), true},
	{"PEM", true, func(g *generator) (string, []string) {
		a, b := base64.StdEncoding.EncodeToString(g.bytes(48)), hex.EncodeToString(g.bytes(5))
		return "-----BEGIN PRIVATE KEY-----\n" + a + "\n" + b + "==\n-----END PRIVATE KEY-----", []string{a, b}
	}, true},
	{"password", true, func(g *generator) (string, []string) {
		var parts []string
		all := "Pw"
		for _, sign := range []string{"!", "#$", "&", "<", ">", "%", "@", "*+", "=", "~^", ":"} {
			part := g.word()
			all, parts = all+sign+part, append(parts, part)
		}
		return all, parts
	}, false},
	{"identifier of Windows", false, whole(func(g *generator) string {
		return fmt.Sprintf("S-1-5-21-%d-%d-%d-1001", g.Uint32(), g.Uint32(), g.Uint32())
	}), true},
	{"mail", false, func(g *generator) (string, []string) {
		user, domain := g.word()+"."+g.word(), g.word()
		return user + "@" + domain + ".example", []string{user, domain}
	}, true},
	{"mail without dots", false, func(g *generator) (string, []string) {
		user, domain := g.word(), g.word()
		return user + "@" + domain, []string{user, domain}
	}, true},
	{"mail in a query", false, func(g *generator) (string, []string) {
		user, domain := g.word(), g.word()
		return user + "%40" + domain + ".example", []string{user, domain}
	}, true},
	{"host", false, func(g *generator) (string, []string) {
		a, b, c := g.word(), g.word(), g.word()
		return a + "." + b + "." + c, []string{a, b, c}
	}, true},
	{"host with a full stop", false, func(g *generator) (string, []string) {
		a, b := g.word(), g.word()
		return a + "-01." + b + ".local.", []string{a, b}
	}, true},
	{"wildcard", false, func(g *generator) (string, []string) { a := g.word(); return "**." + a + ".example", []string{a} }, true},
	{"international host", false, func(g *generator) (string, []string) {
		a := g.word()
		return "bücher-" + a + ".münchen.example", []string{a, "bücher", "münchen"}
	}, true},
	{"punycode", false, func(g *generator) (string, []string) {
		a := g.word()
		return a + ".xn--" + g.word() + "-kva", []string{a}
	}, true},
	{"host in the cloud", false, func(g *generator) (string, []string) {
		a := fmt.Sprintf("10-%d-%d-%d", g.IntN(256), g.IntN(256), g.IntN(256))
		return "ip-" + a, []string{a}
	}, true},
	{"IPv4", false, whole(func(g *generator) string {
		return fmt.Sprintf("%d.%d.%d.%d", 11+g.IntN(80), g.IntN(256), g.IntN(256), 100+g.IntN(156))
	}), true},
	{"address in the tunnel", false, whole(func(g *generator) string {
		return fmt.Sprintf("100.%d.%d.%d", 64+g.IntN(30), g.IntN(256), 100+g.IntN(156))
	}), true},
	{"IPv6", false, whole(func(g *generator) string {
		return netip.AddrFrom16([16]byte(append([]byte{0xfd, 0x17}, g.bytes(14)...))).String()
	}), true},
	{"short IPv6", false, whole(func(g *generator) string {
		return fmt.Sprintf("2001:db8:%x::%x:%x", 1+g.IntN(60000), 0x100+g.IntN(60000), 0x100+g.IntN(60000))
	}), true},
	{"long IPv6", false, whole(func(g *generator) string {
		return strings.ToUpper(netip.AddrFrom16([16]byte(append([]byte{0x20, 0x01}, g.bytes(14)...))).StringExpanded())
	}), true},
	{"mapped IPv4", false, whole(func(g *generator) string {
		return fmt.Sprintf("::ffff:172.%d.%d.%d", 16+g.IntN(16), g.IntN(256), 100+g.IntN(156))
	}), true},
	{"address of a link", false, func(g *generator) (string, []string) {
		a := netip.AddrFrom16([16]byte(append([]byte{0xfe, 0x80, 7: 0}, g.bytes(8)...)))
		mac := g.mac("", 12)
		return a.String() + "%enx" + mac, []string{a.String(), mac}
	}, true},
	{"reverse name", false, func(g *generator) (string, []string) {
		a := fmt.Sprintf("%d.%d.%d", 100+g.IntN(156), g.IntN(256), g.IntN(256))
		return a + ".10.in-addr.arpa", []string{a}
	}, true},
	{"reverse name of IPv6", false, func(g *generator) (string, []string) {
		digits := strings.Join(strings.Split(hex.EncodeToString(g.bytes(15)), ""), ".")
		return digits + ".d.f.ip6.arpa", []string{digits}
	}, true},
	{"UUID", false, whole(func(g *generator) string {
		b := hex.EncodeToString(g.bytes(16))
		return b[:8] + "-" + b[8:12] + "-" + b[12:16] + "-" + b[16:20] + "-" + b[20:]
	}), true},
	{"MAC", false, whole(func(g *generator) string { return g.mac(":", 2) }), true},
	{"MAC with dashes", false, whole(func(g *generator) string { return strings.ToUpper(g.mac("-", 2)) }), true},
	{"MAC with dots", false, whole(func(g *generator) string { return g.mac(".", 4) }), true},
	{"MAC in a name", false, whole(func(g *generator) string { return "enx" + g.mac("", 12) }), true},
	{"home", false, func(g *generator) (string, []string) { u := g.word(); return "/home/" + u + "/.config", []string{u} }, true},
	{"home of a Mac", false, func(g *generator) (string, []string) { u := g.word(); return "/Users/" + u, []string{u} }, true},
	{"URL", false, func(g *generator) (string, []string) { h := g.word(); return "https://" + h + "/x", []string{h} }, true},
	{"URL with a query", true, func(g *generator) (string, []string) {
		h, code := g.word(), g.word()
		return "wss://example/x?state=" + code + "&code=" + h, []string{h, code}
	}, true},
	{"user", false, whole((*generator).word), false},
}

// around is how values stand in texts. V is the value.
var around = []string{
	"V", "a V b", "(V)", "<V>", "[V]", "\"V\"", "'V'", "x=V", "x=V,y=V;z", "x: V", "x:V", "“V”", "„V“", "V→V", "V… and", "V,V", "{V}", "to V: refused", "V.", "V?", "#V", "V|V", "\tV\n", "x@ V", "`V`",
}

// fields are what says that the value after it is one.
var secretFields = []string{
	`password=V`, `password: V`, `"password":"V"`, `{"psk" : "V"}`, `--token V`, `--api-key=V`, `STILE_TOKEN=V`, `Authorization: Bearer V`, `Bearer V`, `Cookie: a=V; b=V`, `<secret>V</secret>`,
	`{Token:V}`, `wifi.psk = "V"`, `token='V'`, `https://alice:V@portal/x`, `ftp://V@host:21/`, `tokens: [V]`, `client_secret:V`, `Proxy-Authorization: Basic V0123456789abcdef`, `passphrase=V next`,
}

var nameFields = []string{`user=V`, `"actor":"V"`, `{"user_name" : "V"}`, `"hostname":"V"`, `site="V"`, `"resource":"V"`, `"name":"V"`, `lookup V on 127.0.0.53:53: no such host`, `connect to V:443 failed`, `user "V" is not known`, `Resource "V": offline`, `dial tcp V:443: refused`, `"query":"V"`, `device_name=V`, `“V” cannot be reached`,
	`http://V:8080/x`, `Get "https://V/": EOF`, `"sites":["V","V"]`}

// TestNothingIsFound has values of each form stand in each way in texts, in JSON
// and in JSON within JSON.
func TestNothingIsFound(t *testing.T) {
	for seed := range uint64(3) {
		g := &generator{rand.New(rand.NewPCG(seed, 0))}
		for _, m := range makers {
			if t.Failed() {
				return
			}
			ways := around
			switch {
			case m.bare && m.secret:
				ways = append(ways, secretFields...)
			case m.bare:
				ways = append(ways, nameFields...)
			case m.secret:
				ways = secretFields
			default:
				ways = nameFields
			}
			for _, way := range ways {
				if strings.Contains(way, "://") && (strings.Contains(m.name, "home") || strings.Contains(m.name, "URL") || m.name == "address of a link") {
					continue
				}
				value, parts := m.make(g)
				text1 := strings.ReplaceAll(way, "V", value)
				for _, keep := range []bool{false, true} {
					if keep && !m.secret || keep && m.name == "URL with a query" && strings.HasSuffix(way, "x") {
						continue
					}
					r := newRedactor(keep)
					for form, in := range map[string]string{
						"text": text1 + "\n", "JSON": line("message", text1), "JSON in JSON": line("body", line("message", text1)), "a key": `{"` + quoted(text1) + `":1}`,
					} {
						f := jsons
						if form == "text" {
							f = text
						}
						out := string(r.redact(nil, []byte(in), f))
						for _, part := range parts {
							if strings.Contains(strings.ToLower(out), strings.ToLower(part)) {
								t.Errorf("seed %d: %s in %s, full %v: %s → %s", seed, m.name, form, keep, strings.TrimSpace(in), strings.TrimSpace(out))
							}
						}
						if f == jsons && !json.Valid([]byte(out)) {
							t.Errorf("seed %d: %s in %s is no JSON any more: %s\n→ %s", seed, m.name, form, in, out)
						}
					}
				}
			}
		}
	}
}

func line(key, value string) string {
	text, _ := json.Marshal(map[string]string{key: value})
	return string(text) + "\n"
}

// TestTheSameStaysTheSame follows a host, a user and an address through forms.
func TestTheSameStaysTheSame(t *testing.T) {
	r := newRedactor(false)
	r.learn(aUser, "Zoë Miller")
	for _, row := range []struct{ in, want string }{
		{`{"a":"wiki.corp.example"}`, "h1.d1.invalid"},
		{`{"m":"query for WIKI.corp.example. answered"}`, "h1.d1.invalid"},
		{`{"u":"https://wiki.corp.example:443/x?a=b"}`, "h1.d1.invalid"},
		{`{"m":"“wiki.corp.example” cannot be reached"}`, "“h1.d1.invalid”"},
		{`{"m":"bob@wiki.corp.example"}`, "@h1.d1.invalid"},
		{`{"wiki.corp.example":{}}`, `"h1.d1.invalid"`},
		{`{"source":"192.168.7.9:52625","destination":"[fd17::9]:443"}`, `"lan1.9:52625"`},
		{`{"m":"from 192.168.7.9→[fd17::9]:443"}`, "lan1.9→[lan6-1:1]:443"},
		{`{"m":"9.7.168.192.in-addr.arpa"}`, "lan1.9.in-addr.arpa"},
		{`{"m":"192.168.7.0/24"}`, "lan1.0/24"},
		{`{"m":"::ffff:192.168.7.9"}`, "lan1.9"},
		{`{"m":"zoë miller’s laptop"}`, "user-1’s"},
		{`{"m":"Zo\u00eb Miller"}`, "user-1"},
		{`{"m":"D:\\Zoë Miller\\x"}`, `D:\\user-1\\x`},
		{`{"m":"basic Zoë Miller, lookup"}`, `user-1, lookup`},
		{`{"m":"to Zoë Miller"}`, `to user-1"`},
		{`{"m":"` + url.QueryEscape("Zoë Miller") + `"}`, "user-1"},
		{`{"m":"00:11:22:aa:bb:cc 00-11-22-AA-BB-CC 0011.22aa.bbcc enx001122aabbcc"}`, "mac-1 mac-1 mac-1 mac-1"},
	} {
		if got := string(r.redact(nil, []byte(row.in), jsons)); !strings.Contains(got, row.want) {
			t.Errorf("%s\n→ %s, want %s", row.in, got, row.want)
		}
	}
}

// TestWhatHelpsStays has what a supporter needs survive.
func TestWhatHelpsStays(t *testing.T) {
	for _, line := range []string{
		`{"time":"2026-11-23T09:00:00.123456789Z","severity":"INFO","message":"started log","target":"platform/logs","version":"0.1.0 (1f2e3d4c5b6a)","os":"Debian GNU/Linux 12.0.0","kernel":"6.8.0-45-generic","arch":"x86_64","uptime":"18m51s","filter":"info,tunnel/wg=debug"}`,
		`{"logging.googleapis.com/sourceLocation":{"file":"tunnel/daemon/daemon.go","line":"17"},"after":"1.5s","n":12345678901}`,
		`{"message":"packet outbound","protocol":"tcp","flags":"SA","packets":3,"bytes":1500,"overMs":20,"outcome":"no resource","type":8,"code":0}`,
		`{"message":"read the network: operation not permitted; run as root","error":"connect: connection refused"}`,
		`{"phase":"connected","token":"sign-in","portal_up":true,"counters":[{"name":"dropped","value":5}]}`,
		`{"message":"the token is rejected: sign in again","lines":3}`,
		`{"file":"/var/log/stile/tunnel-service.2026-11-23-09-00-00.log","interface":"stile0","dev":"wlp2s0","pid":4711}`,
		`{"error":"read the token: open /var/lib/stile/token: permission denied","why":"The name org.freedesktop.secrets was not provided by any .service files"}`,
		`{"message":"TLS handshake: x509: certificate signed by unknown authority"}`,
		`{"session":{"phase":"signed-out","problem":{"code":"portal-unreachable","text":"The portal cannot be reached."}}}`,
	} {
		r := newRedactor(false)
		r.kept["dropped"] = true
		if got := string(r.redact(nil, []byte(line), jsons)); got != line {
			t.Errorf("%s\n→ %s", line, got)
		}
	}
}

// FuzzJSONStaysJSON also plants a name and a token in what is JSON.
func FuzzJSONStaysJSON(f *testing.F) {
	for _, way := range append(append(around, secretFields...), nameFields...) {
		f.Add([]byte(line("message", way)), "x", true)
		f.Add([]byte(`{"a":[`+line("k", way)+`,{"token":["a",{"b":1}]}]}`), `x","y\`, false)
	}
	f.Add([]byte(`{"nonce":12345678901,"serial":[12345678901,null],"psk":{"a":[1e99,"b"]}}`), "Li", false)
	f.Add([]byte(`{"a":"-----BEGIN X-----","b":"-----END X-----","c":"“","d":"”"}`), "e", false)
	f.Add([]byte(`{"a":"C:\\Users\u0026x\\\\server\\share","b":"password='"}`), "e\\", true)
	f.Fuzz(func(t *testing.T, b []byte, name string, keep bool) {
		r := newRedactor(keep)
		r.learn(aUser, name)
		learned := r.version
		out := r.redact(nil, b, jsons)
		if json.Valid(b) && !json.Valid(out) {
			t.Fatalf("%s\n→ %s", b, out)
		}
		if again := r.redact(nil, b, jsons); !bytes.Equal(again, out) && r.version == learned {
			t.Fatalf("%s\n→ %s\n→ %s", b, out, again)
		}
		const token = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9.AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGhIjKlMnOpQrStUvWxYz01"
		planted := bytes.ReplaceAll(b, []byte(" "), []byte(" "+token+" "))
		if out := r.redact(nil, planted, jsons); bytes.Contains(out, []byte("AbCdEfGhIjKlMnOp")) {
			t.Fatalf("%s\n→ %s", planted, out)
		}
	})
}

// TestNothingTakesLong has words and lines that are long, or the same again and
// again: what others write must not hold up an export.
func TestNothingTakesLong(t *testing.T) {
	for _, unit := range []string{"a-", "11-", "aa:", "1.", "a.b-", "token: ", "token=", `\"token\":`, "user=[", "-----BEGIN ", "“", `\\`, `\\Users\\`, "lookup ", "Bearer ", "http://", "a@", "%40", "a/", "f:", `"token":[`, `{"token":`, "<token>", "é", "'token='", "&a=", "eyJ.", "Ab1", "/home/"} {
		for _, f := range []form{text, jsons} {
			r := newRedactor(false)
			r.learn(aUser, "a b c")
			const size = 1 << 15
			in := bytes.Repeat([]byte(unit), size/len(unit))
			began := time.Now()
			r.redact(nil, in, f)
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("%q, form %d: %v", unit, f, took)
			}
		}
	}
}

// TestKnownNames has names that were learned, of several words and with signs that
// escapes stand for, in all surroundings.
func TestKnownNames(t *testing.T) {
	for _, name := range []string{"Zoë O'Neil & Sons", `Build "Server" <1>`, `C:\Share`, "R&D", "张三", "MÜLLER Straße", "a.b c", "Office (old)", "x=y", "wiki", "the portal of us", "-dash", "50% off"} {
		for _, way := range append(append([]string{"/srv/V/x", `C:\V\x`, "to V now", "x-V", "V's", "V’s", "user V:", "V/V", "~V", "V=1", "was V"}, around...), nameFields...) {
			if strings.Contains(way, "://") || strings.Contains(way, "tcp V") || strings.Contains(way, "lookup V") || strings.HasPrefix(way, "user=V") {
				continue // no such names there
			}
			for _, said := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
				text1 := strings.ReplaceAll(way, "V", said)
				for form, in := range map[form]string{text: text1 + "\n", jsons: line("message", text1)} {
					r := newRedactor(false)
					r.learn(aResource, name)
					out := string(r.redact(nil, []byte(in), form))
					if low := strings.ToLower(out); strings.Contains(low, strings.ToLower(said)) || strings.Contains(low, strings.ToLower(quoted(said))) {
						t.Errorf("%s\n→ %s", in, out)
					}
					if form == jsons && !json.Valid([]byte(out)) {
						t.Errorf("no JSON: %s\n→ %s", in, out)
					}
				}
			}
		}
	}
}
