package keystore

import (
	"fmt"
	"os"

	"golang.org/x/sys/windows"

	"stile/platform/dirs"
)

func private(f *os.File) error {
	sd, err := windows.GetSecurityInfo(windows.Handle(f.Fd()), windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("does not tell who may read it: %w", err)
	}
	who := dirs.Outsider(sd)
	if who == "" {
		return nil
	}
	return fmt.Errorf("lets %s read or change the token; run as administrator: icacls \"%s\" /setowner *S-1-5-32-544 & icacls \"%s\" /inheritance:r /remove *%s /grant *S-1-5-18:F *S-1-5-32-544:F",
		account(who), f.Name(), f.Name(), who)
}

// account is the name of an account, if it has one.
func account(id string) string {
	sid, err := windows.StringToSid(id)
	if err != nil {
		return id
	}
	name, domain, _, err := sid.LookupAccount("")
	if err != nil {
		return id
	}
	return domain + `\` + name
}
