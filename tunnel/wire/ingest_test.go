package wire

import (
	"encoding/base64"
	"strings"
	"testing"
	"unicode/utf8"
)

// The checks of 3.1.9, in their order, then the claims by type.
func TestCheckIngestToken(t *testing.T) {
	part := base64.RawURLEncoding.EncodeToString
	good := strings.Split(ingestToken("initiator"), ".")
	claims, err := base64.RawURLEncoding.DecodeString(good[1])
	if err != nil {
		t.Fatal(err)
	}
	changed := func(old, new string) string {
		if !strings.Contains(string(claims), old) {
			t.Fatalf("%s is not in the claims", old)
		}
		return good[0] + "." + part([]byte(strings.Replace(string(claims), old, new, 1))) + "." + good[2]
	}
	for _, row := range []struct {
		name, token string
		ok          bool
	}{
		{"good", strings.Join(good, "."), true},
		{"two parts", good[0] + "." + good[1], false},
		{"four parts", strings.Join(good, ".") + ".", false},
		{"padding", good[0] + "=." + good[1] + "." + good[2], false},
		{"header is no JSON", part([]byte("x")) + "." + good[1] + "." + good[2], false},
		{"other algorithm", part([]byte(`{"alg":"none"}`)) + "." + good[1] + "." + good[2], false},
		{"no algorithm", part([]byte(`{}`)) + "." + good[1] + "." + good[2], false},
		{"more in the header", part([]byte(`{"typ":"JWT","alg":"HS256"}`)) + "." + good[1] + "." + good[2], true},
		{"empty signature", good[0] + "." + good[1] + ".", false},
		{"claim missing", changed(`"policy_id":"66bb",`, ""), false},
		{"claim null", changed(`"policy_id":"66bb"`, `"policy_id":null`), false},
		{"claim of another type", changed(`"resource_name":"Wiki"`, `"resource_name":7`), false},
		{"time as text", changed(`"iat":1790000000`, `"iat":"1790000000"`), false},
		{"time negative", changed(`"exp":1792678400`, `"exp":-1`), false},
		{"time as float", changed(`"exp":1792678400`, `"exp":1.5`), false},
		{"flag missing", changed(`"uploads_enabled":false,`, ""), false},
		{"other role", changed(`"role":"initiator"`, `"role":"responder"`), false},
		{"optional claim null", changed(`{`, `{"initiator_actor_email":null,`), true},
		{"optional claim of another type", changed(`{`, `{"initiator_actor_email":7,`), false},
		{"unknown claim", changed(`{`, `{"shoe_size":43,`), true},
	} {
		if err := CheckIngestToken(row.token, "initiator"); (err == nil) != row.ok {
			t.Errorf("%s: %v, want ok %v", row.name, err, row.ok)
		}
	}
}

func TestReadIngestToken(t *testing.T) {
	token := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".AA"
	}
	const policy, actor = "66bb0000-0000-4000-8000-000000000001", "44cc0000-0000-4000-8000-000000000002"
	long := "a" + strings.Repeat("ü", 200) // cut in the middle of a letter
	for _, row := range []struct {
		name, token               string
		policy, actor, who, email string
	}{
		{"ours", token(`{"policy_id":"` + policy + `","initiator_actor_id":"` + actor + `","initiator_actor_name":"Alice","initiator_actor_email":"a@b.example"}`), policy, actor, "Alice", "a@b.example"},
		{"a service account", token(`{"policy_id":"` + policy + `","initiator_actor_id":"` + actor + `","initiator_actor_name":"backup","initiator_actor_email":null}`), policy, actor, "backup", ""},
		{"no UUIDs", ingestToken("responder"), zeroID, zeroID, "Alice", ""},
		{"long name", token(`{"policy_id":"p","initiator_actor_id":"a","initiator_actor_name":"` + long + `"}`), zeroID, zeroID, long[:255], ""},
		{"a claim is missing", token(`{"policy_id":"` + policy + `","initiator_actor_id":"` + actor + `"}`), zeroID, zeroID, "", ""},
		{"no JSON", token("x"), zeroID, zeroID, "", ""},
		{"no base64", "a.!.c", zeroID, zeroID, "", ""},
		{"none", "", zeroID, zeroID, "", ""},
	} {
		got := ReadIngestToken(row.token)
		if got.Policy.String() != row.policy || got.Actor.String() != row.actor || got.ActorName != row.who || got.ActorEmail != row.email {
			t.Errorf("%s: %+v", row.name, got)
		}
	}
}

const zeroID = "00000000-0000-0000-0000-000000000000"

func FuzzIngestToken(f *testing.F) {
	f.Add(ingestToken("initiator"))
	f.Add("e30.e30.e30")
	f.Fuzz(func(t *testing.T, token string) {
		CheckIngestToken(token, "initiator")
		if in := ReadIngestToken(token); len(in.ActorName) > maxIngestText || !utf8.ValidString(in.ActorName) {
			t.Errorf("%q", in.ActorName)
		}
	})
}
