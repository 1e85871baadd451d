package ipcsock

import "strings"

// Rights on a pipe. GENERIC_WRITE would contain FILE_CREATE_PIPE_INSTANCE, with
// which a client could put itself beside the server and take its callers.
const (
	fullAccess = "GA"
	talk       = "0x12019b" // FILE_GENERIC_READ | FILE_GENERIC_WRITE but for FILE_APPEND_DATA, which is the same bit
)

// describe writes, as SDDL, who may use a pipe: the system everything, people
// who sit at the machine may talk, callers over the network and without a name
// may not, whatever else they are (spec desktop-client.md 3.3). The order
// matters: what is denied comes first. Nothing is inherited. owner is a SID that
// also has everything; "": the system.
func describe(owner string) string {
	if owner == "" || owner == systemSID {
		owner = "SY"
	}
	var b strings.Builder
	b.WriteString("O:" + owner + "D:P")
	for _, group := range []string{"NU", "AN"} {
		b.WriteString("(D;;" + fullAccess + ";;;" + group + ")")
	}
	b.WriteString("(A;;" + fullAccess + ";;;SY)")
	if owner != "SY" {
		b.WriteString("(A;;" + fullAccess + ";;;" + owner + ")")
	}
	b.WriteString("(A;;" + talk + ";;;IU)")
	return b.String()
}
