package id

import (
	"encoding/json"
	"testing"
)

func TestTextRoundTrip(t *testing.T) {
	const text = "5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11"
	i, err := Parse[resource](text)
	if err != nil || i.String() != text {
		t.Fatalf("Parse(%q) = %v, %v", text, i, err)
	}
	upper, err := Parse[resource]("5D1F0A3E-6F0B-4C57-9C8E-0A4D1F6B2C11")
	if err != nil || upper != i {
		t.Fatalf("upper case: %v, %v", upper, err)
	}
	b, err := json.Marshal(map[Resource]Resource{i: i})
	if err != nil || string(b) != `{"`+text+`":"`+text+`"}` {
		t.Fatalf("json: %s, %v", b, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "5d1f0a3e6f0b4c579c8e0a4d1f6b2c11", "5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c1",
		"5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c1g", "{5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11}",
		"5d1f0a3e-6f0b-4c57-9c8e+0a4d1f6b2c11",
	} {
		if i, err := Parse[resource](text); err == nil || !i.IsZero() {
			t.Errorf("Parse(%q) = %v, %v; want an error and the zero ID", text, i, err)
		}
	}
}

func TestNewSetsVersionAndVariant(t *testing.T) {
	if got, want := New[client]([16]byte{}).String(), "00000000-0000-4000-8000-000000000000"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCompareIsTextOrder(t *testing.T) {
	a, b := Resource{15: 1}, Resource{0: 1}
	if a.Compare(b) >= 0 || b.Compare(a) <= 0 || a.Compare(a) != 0 {
		t.Error("Compare does not order by bytes")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("5d1f0a3e-6f0b-4c57-9c8e-0a4d1f6b2c11")
	f.Fuzz(func(t *testing.T, s string) {
		i, err := Parse[site](s)
		if err != nil {
			return
		}
		if again, err := Parse[site](i.String()); err != nil || again != i {
			t.Fatalf("%q → %v → %v, %v", s, i, again, err)
		}
	})
}
