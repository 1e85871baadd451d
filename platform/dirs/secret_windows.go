package dirs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

func writeSecret(path string, data []byte) error {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return replace(path, data, 0o600, createSecret)
}

// access is the descriptor of what has secrets. flags say what inherits it.
func access(flags string) (*windows.SecurityAttributes, error) {
	sddl := "D:P"
	who := []string{"SY", "BA"}
	if token := windows.GetCurrentProcessToken(); !token.IsElevated() {
		user, err := token.GetTokenUser()
		if err != nil {
			return nil, err
		}
		who = append(who, user.User.Sid.String())
	}
	for _, sid := range who {
		sddl += "(A;" + flags + ";FA;;;" + sid + ")"
	}
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		return nil, err
	}
	a := &windows.SecurityAttributes{SecurityDescriptor: sd}
	a.Length = uint32(unsafe.Sizeof(*a))
	return a, nil
}

const below = "OICI" // files and folders inherit it

// makeFolder makes a folder, and those above it, with the descriptor of secrets.
func makeFolder(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if above := filepath.Dir(path); above != path {
		if err := makeFolder(above); err != nil {
			return err
		}
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	attributes, err := access(below)
	if err != nil {
		return err
	}
	if err := windows.CreateDirectory(name, attributes); err != nil && !errors.Is(err, fs.ErrExist) {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return nil
}

// createSecret makes a new file as os.CreateTemp does.
func createSecret(dir, pattern string) (*os.File, error) {
	attributes, err := access("")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, strings.Replace(pattern, "*", rand.Text(), 1))
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, attributes, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

func protect(path string) error {
	path = filepath.Clean(path)
	chain := []string{path}
	if rest, is := strings.CutPrefix(strings.ToLower(path), strings.ToLower(Config)+`\`); is && rest != "" {
		chain = []string{Config, path}
	}
	for _, dir := range chain {
		if err := makeFolder(dir); err != nil {
			return fmt.Errorf("make a private folder: %w", err)
		}
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() { // a link may lead anywhere, tomorrow
			return fmt.Errorf("%s is not a folder: remove it, and start again", dir)
		}
	}
	return filepath.WalkDir(chain[0], func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("keep others out: %w", err)
		}
		return shut(path, d.IsDir()) // before anything below it
	})
}

// shut lets no outsider have what is at path.
func shut(path string, folder bool) error {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(name, windows.READ_CONTROL|windows.WRITE_DAC, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil,
		windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return fmt.Errorf("keep others out of %s: %w; run as administrator", path, err)
	}
	defer windows.CloseHandle(h)
	sd, err := windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("find out who may use %s: %w", path, err)
	}
	if who := foreignOwner(sd); who != "" {
		return fmt.Errorf("%s belongs to %s, who could put anything there: remove it, and start again", path, who)
	}
	if Outsider(sd) == "" {
		return nil
	}
	flags := ""
	if folder {
		flags = below
	}
	wanted, err := access(flags)
	if err == nil {
		err = windows.SetKernelObjectSecurity(h, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, wanted.SecurityDescriptor)
	}
	if err == nil {
		sd, err = windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	}
	if err == nil && Outsider(sd) != "" {
		err = errors.New("the disk does not keep who may use what")
	}
	if err != nil {
		return fmt.Errorf("keep others out of %s: %w", path, err)
	}
	return nil
}

// harmless are rights by which nobody learns or changes what is in a file.
const harmless = windows.READ_CONTROL | windows.SYNCHRONIZE | windows.FILE_READ_ATTRIBUTES | windows.FILE_READ_EA

// Outsider is the SID of somebody else than the system, administrators and the
// user of this program whom sd, with owner and DACL, gives a right that tells or
// changes content; "" if there is nobody. What cannot be understood gives all
// rights to everybody.
func Outsider(sd *windows.SECURITY_DESCRIPTOR) string {
	const everybody = "S-1-1-0"
	if who := foreignOwner(sd); who != "" {
		return who
	}
	dacl, _, err := sd.DACL()
	if err != nil || dacl == nil {
		return everybody
	}
	for i := range uint32(dacl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(dacl, i, &ace); err != nil {
			return everybody
		}
		switch ace.Header.AceType {
		case windows.ACCESS_DENIED_ACE_TYPE:
			continue
		case windows.ACCESS_ALLOWED_ACE_TYPE:
		default:
			return everybody
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
		owners := sid.IsWellKnown(windows.WinCreatorOwnerSid) || sid.IsWellKnown(windows.WinCreatorOwnerRightsSid) // rights of an owner who is one of us
		if ace.Mask&^harmless != 0 && !owners && !insider(sid) {
			return sid.String()
		}
	}
	return ""
}

// foreignOwner is the SID of the owner, who may always change who may do what,
// if that is an outsider.
func foreignOwner(sd *windows.SECURITY_DESCRIPTOR) string {
	owner, _, err := sd.Owner()
	switch {
	case err != nil || owner == nil:
		return "nobody known"
	case insider(owner):
		return ""
	}
	return owner.String()
}

func insider(sid *windows.SID) bool {
	if sid.IsWellKnown(windows.WinLocalSystemSid) || sid.IsWellKnown(windows.WinBuiltinAdministratorsSid) {
		return true
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	return err == nil && user.User.Sid.Equals(sid)
}
