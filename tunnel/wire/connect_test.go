package wire

import "testing"

func TestUserAgent(t *testing.T) {
	for _, row := range []struct{ got, want string }{
		{UserAgent(HeadlessClient, "0.1.0", "Ubuntu", "24.4.0", "amd64", "6.8.0-45-generic"), "Ubuntu/24.4.0 headless-client/1.5.11 (x86_64; 6.8.0-45-generic) stile/0.1.0"},
		{UserAgent(GUIClient, "0.1.0", "Windows", "10.0.22631", "x86_64", ""), "Windows/10.0.22631 gui-client/1.5.16 (x86_64) stile/0.1.0"},
		{UserAgent(Gateway, "0.1.0", "Alpine Linux", "3.20.3", "arm64", "6.1.0"), "Alpine Linux/3.20.3 gateway/1.6.0 (aarch64; 6.1.0) stile/0.1.0"},
		{UserAgent(Gateway, "0.1.0", "Zürich\r\nX: y", "1", "riscv64", ""), "ZrichX: y/1 gateway/1.6.0 (riscv64) stile/0.1.0"},
	} {
		if row.got != row.want {
			t.Errorf("got  %s\nwant %s", row.got, row.want)
		}
	}
}

func TestExternalID(t *testing.T) {
	const uuid = "11111111-1111-4111-8111-111111111111"
	if got, want := ExternalID(uuid), "bd7662a5eeb41614e720d477abfcb2272e19a8a70a93b7e3bc8560d44ad326e9"; got != want {
		t.Errorf("hash of a UUID: %s, want %s", got, want)
	}
	for _, spelling := range []string{uuid, "11111111111141118111111111111111", "{" + uuid + "}", "urn:uuid:" + uuid, "AAAAAAAA-1111-4111-8111-111111111111"} {
		if ExternalID(spelling) == spelling {
			t.Errorf("%s was not hashed", spelling)
		}
	}
	for _, other := range []string{"", "laptop-7", "{" + uuid, uuid + "}", "urn:uuid:11111111111141118111111111111111", "11111111-1111-4111-8111-11111111111g", "1111111-11111-4111-8111-111111111111"} {
		if got := ExternalID(other); got != other {
			t.Errorf("%s became %s", other, got)
		}
	}
}
