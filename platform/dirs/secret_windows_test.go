package dirs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

func me(t *testing.T) string {
	t.Helper()
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	return user.User.Sid.String()
}

func TestOutsiders(t *testing.T) {
	const everybody, users, somebody = "S-1-1-0", "S-1-5-32-545", "S-1-5-21-1-2-3-1001"
	for _, row := range []struct{ sddl, want string }{
		{"O:BAD:P(A;;FA;;;SY)(A;;FA;;;BA)", ""},
		{"O:SYD:P(A;;FA;;;SY)(A;;FA;;;ME)", ""},
		{"O:MED:(A;;FA;;;SY)(A;OICIIO;FA;;;CO)(A;;FA;;;S-1-3-4)", ""},
		{"O:BAD:P", ""}, // nobody may do anything
		{"O:BAD:(D;;FA;;;WD)(A;;FA;;;BA)", ""},
		{"O:BAD:(A;;RC;;;WD)(A;;FA;;;BA)", ""}, // who may do what is no secret
		{"O:" + somebody + "D:P(A;;FA;;;SY)(A;;FA;;;BA)", somebody},
		{"O:BAD:P(A;;FA;;;SY)(A;;FR;;;BU)", users},
		{"O:BAD:P(A;;FA;;;SY)(A;;0x2;;;BU)", users}, // write
		{"O:BAD:P(A;;FA;;;SY)(A;;WD;;;BU)", users},  // change who may
		{"O:BAD:P(A;;FA;;;SY)(A;;GR;;;WD)", everybody},
		{"O:BAD:P(A;OICIIO;FA;;;BU)(A;;FA;;;BA)", users}, // in what comes into it
		{"O:BAD:P(A;;FA;;;" + somebody + ")", somebody},
		{"O:BA", everybody},
		{"D:P(A;;FA;;;SY)", "nobody known"},
	} {
		sd, err := windows.SecurityDescriptorFromString(strings.ReplaceAll(row.sddl, "ME", me(t)))
		if err != nil {
			t.Fatal(row.sddl, err)
		}
		if got := Outsider(sd); got != row.want {
			t.Errorf("%s: %q, want %q", row.sddl, got, row.want)
		}
	}
}

// An entry of a kind that is not understood may let anybody in.
func TestEntriesOfOtherKinds(t *testing.T) {
	sd, err := windows.SecurityDescriptorFromString("O:BAD:P(A;;FA;;;BA)")
	if err != nil {
		t.Fatal(err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	var ace *windows.ACCESS_ALLOWED_ACE
	if err := windows.GetAce(dacl, 0, &ace); err != nil {
		t.Fatal(err)
	}
	ace.Header.AceType = 9 // allowed if a condition holds
	if got := Outsider(sd); got != "S-1-1-0" {
		t.Errorf("%q", got)
	}
}

// outsider looks at what is at path.
func outsider(t *testing.T, path string) string {
	t.Helper()
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		t.Fatal(err)
	}
	return Outsider(sd)
}

// loosen lets everybody do anything with what is at path, and with what comes
// there.
func loosen(t *testing.T, path string) {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString("D:P(A;OICI;FA;;;WD)(A;OICI;FA;;;" + me(t) + ")")
	if err != nil {
		t.Fatal(err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil); err != nil {
		t.Fatal(err)
	}
	if who := outsider(t, path); who != "S-1-1-0" {
		t.Fatalf("%q may write to %s", who, path)
	}
}

func TestWriteSecret(t *testing.T) {
	dir := t.TempDir()
	loosen(t, dir)
	path := filepath.Join(dir, "new", "secret")
	for _, text := range []string{"first, longer", "second"} {
		if err := WriteSecret(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Fatalf("%q, %v", got, err)
		}
		for _, p := range []string{path, filepath.Dir(path)} {
			if who := outsider(t, p); who != "" {
				t.Errorf("%s may be read or changed by %s", p, who)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Error("left behind:", left)
	}
	open := filepath.Join(dir, "open") // in a folder that lets others in
	if err := WriteSecret(open, []byte("x")); err != nil || outsider(t, open) != "" {
		t.Errorf("%v, %q", err, outsider(t, open))
	}
}

func TestCreatedSecretIsPrivateFromTheStart(t *testing.T) {
	dir := t.TempDir()
	loosen(t, dir)
	f, err := createSecret(dir, ".x.*")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if who := outsider(t, f.Name()); who != "" {
		t.Errorf("an empty file may be read or changed by %s", who)
	}
}

func TestProtect(t *testing.T) {
	was := Config
	defer func() { Config = was }()
	Config = filepath.Join(t.TempDir(), "stile")
	state := filepath.Join(Config, "config")
	early := filepath.Join(state, "early") // was there before
	for range 2 {
		if err := Protect(state); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{Config, state, early} {
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
				continue
			}
			if who := outsider(t, path); who != "" {
				t.Errorf("%s may be read or changed by %s", path, who)
			}
		}
		if err := os.WriteFile(early, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{Config, state, early} {
			loosen(t, path)
		}
	}
	beside := filepath.Join(filepath.Dir(Config), "beside")
	if err := Protect(beside); err != nil || outsider(t, beside) != "" || outsider(t, Config) == "" {
		t.Error(err)
	}
	if err := Protect(early); err == nil {
		t.Error("a file was taken for a folder")
	}
}
