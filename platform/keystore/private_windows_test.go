package keystore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// give sets who may do what with a file; ME stands for this user.
func give(t *testing.T, path, sddl string) {
	t.Helper()
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	sd, err := windows.SecurityDescriptorFromString(strings.ReplaceAll(sddl, "ME", user.User.Sid.String()))
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
}

func TestTokenFilesOfOthersAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private", "token")
	if _, err := FromFile(path); !errors.Is(err, ErrNoToken) {
		t.Error(err)
	}
	if err := Store(path, "abc"); err != nil {
		t.Fatal(err)
	}
	if got, err := FromFile(path); err != nil || got != "abc" {
		t.Errorf("as it is stored: %q, %v", got, err)
	}
	for _, sddl := range []string{"D:P(A;;FA;;;ME)(A;;FR;;;WD)", "D:P(A;;FA;;;ME)(A;;FA;;;WD)"} {
		give(t, path, sddl)
		got, err := FromFile(path)
		if err == nil || got != "" || !strings.Contains(err.Error(), "read or change the token") || !strings.Contains(err.Error(), "icacls") || !strings.Contains(err.Error(), "*S-1-1-0") {
			t.Errorf("%s: %q, %v", sddl, got, err)
		}
	}
	give(t, path, "D:P(A;;FA;;;ME)(A;;FA;;;SY)(A;;FA;;;BA)")
	if got, err := FromFile(path); err != nil || got != "abc" {
		t.Errorf("put right: %q, %v", got, err)
	}
	plain := filepath.Join(filepath.Dir(path), "plain") // as an editor makes it, in a folder of everybody's
	give(t, filepath.Dir(path), "D:P(A;OICI;FA;;;ME)(A;OICI;FR;;;WD)")
	if err := os.WriteFile(plain, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := FromFile(plain); err == nil || got != "" {
		t.Errorf("inherited: %q, %v", got, err)
	}
}
