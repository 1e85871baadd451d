package ipcsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

const (
	pipes = `\\.\pipe\`
	// Below this only administrators can make pipes, so that nobody can wait at
	// the service's place before it.
	protected = pipes + `ProtectedPrefix\Administrators\Stile\`

	pipeBuffer  = 64 << 10 // bytes, each way
	squatted    = 10       // attempts while handles of an earlier run are left
	squattedGap = 100 * time.Millisecond
)

// Path returns where a service of this name listens.
func Path(name string) string { return protected + name }

// Listen makes a pipe at path, whose rights describe says; mode is for systems
// with modes. The pipe does not exist before: nobody else is behind it. If this
// process is not the system, its user has all rights, too.
func Listen(path string, _ fs.FileMode) (net.Listener, error) {
	if !strings.HasPrefix(path, pipes) {
		return nil, fmt.Errorf("listen at %s: write it like %sNAME", path, pipes)
	}
	us, err := ourSID()
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	c := &winio.PipeConfig{SecurityDescriptor: describe(us), InputBufferSize: pipeBuffer, OutputBufferSize: pipeBuffer}
	for try := 1; ; try++ {
		l, err := winio.ListenPipe(path, c)
		switch {
		case err == nil:
			return l, nil
		case !errors.Is(err, windows.ERROR_ACCESS_DENIED):
			return nil, fmt.Errorf("listen at %s: %w", path, err)
		case try == squatted:
			return nil, fmt.Errorf("listen at %s: %w", path, ErrInUse)
		}
		time.Sleep(squattedGap)
	}
}

// Dial connects to the pipe at path. The error is ErrNobody or ErrDenied, or
// says what else is wrong. The server may learn who we are, not act as us.
func Dial(path string) (net.Conn, error) {
	if !strings.HasPrefix(path, pipes) {
		return nil, fmt.Errorf("%s: %w", path, ErrNobody)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := winio.DialPipeContext(ctx, path)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", path, ErrNobody)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: %w", path, ErrDenied)
	}
	return nil, fmt.Errorf("%s: %w", path, err)
}

// caller asks for the client's process and whose it is. The number of a process
// that has ended can be given to another: one that is younger than the look at
// it is not the caller.
func caller(conn net.Conn) (Peer, error) {
	pipe, err := handle(conn)
	if err != nil {
		return Peer{}, err
	}
	var pid uint32
	if err := windows.GetNamedPipeClientProcessId(pipe, &pid); err != nil {
		return Peer{}, err
	}
	return describeProcess(pid)
}

// server asks for the other side. Squatters, who made the pipe before the
// service did, cannot give it to the system as its owner.
func server(conn net.Conn) (p Peer, trusted bool, err error) {
	pipe, err := handle(conn)
	if err != nil {
		return Peer{}, false, err
	}
	var pid, session uint32
	if err := windows.GetNamedPipeServerProcessId(pipe, &pid); err != nil {
		return Peer{}, false, err
	}
	if err := windows.ProcessIdToSessionId(pid, &session); err != nil {
		return Peer{}, false, err
	}
	info, err := windows.GetSecurityInfo(pipe, windows.SE_KERNEL_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return Peer{}, false, err
	}
	owner, _, err := info.Owner()
	if err != nil {
		return Peer{}, false, err
	}
	us, err := ourSID()
	if err != nil {
		return Peer{}, false, err
	}
	ours, err := ourSession()
	if err != nil {
		return Peer{}, false, err
	}
	p = Peer{UID: noID, GID: noID, PID: int32(pid), SID: owner.String(), Session: session}
	service := p.SID == systemSID && session == 0
	return p, service || p.SID == us && session == ours, nil
}

// handle returns the pipe; it is conn's.
func handle(conn net.Conn) (windows.Handle, error) {
	file, is := conn.(interface{ Fd() uintptr })
	if !is {
		return 0, errors.New("not a named pipe")
	}
	return windows.Handle(file.Fd()), nil
}

// describeProcess tells whose a process is.
func describeProcess(pid uint32) (Peer, error) {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return Peer{}, fmt.Errorf("process %d: %w", pid, err)
	}
	defer windows.CloseHandle(process)
	p := Peer{UID: noID, GID: noID, PID: int32(pid)}
	if err := windows.ProcessIdToSessionId(pid, &p.Session); err != nil {
		return Peer{}, err
	}
	var token windows.Token
	if err := windows.OpenProcessToken(process, windows.TOKEN_QUERY, &token); err != nil {
		return Peer{}, fmt.Errorf("process %d: %w", pid, err)
	}
	defer token.Close()
	user, err := token.GetTokenUser()
	if err != nil {
		return Peer{}, err
	}
	p.SID, p.elevated = user.User.Sid.String(), token.IsElevated()
	return p, nil
}

func ourSID() (string, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", err
	}
	return user.User.Sid.String(), nil
}

func ourSession() (session uint32, err error) {
	err = windows.ProcessIdToSessionId(uint32(os.Getpid()), &session)
	return session, err
}

// program returns the image of a process. Its file cannot be replaced while it
// runs; an upgrade moves it away.
func program(_ net.Conn, p Peer) (executable, error) {
	process, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(p.PID))
	if err != nil {
		return executable{}, fmt.Errorf("process %d: %w", p.PID, err)
	}
	defer windows.CloseHandle(process)
	text := make([]uint16, windows.MAX_LONG_PATH)
	n := uint32(len(text))
	if err := windows.QueryFullProcessImageName(process, 0, &text[0], &n); err != nil {
		return executable{}, fmt.Errorf("process %d: %w", p.PID, err)
	}
	path := windows.UTF16ToString(text[:n])
	safe, err := administrators(path)
	if err != nil {
		return executable{}, err
	}
	return executable{path: path, safe: safe, is: func(other string) bool { return strings.EqualFold(filepath.Clean(other), filepath.Clean(path)) }}, nil
}

// administrators reports whether a file belongs to the administrators, the
// system or the installer, or to us. Its rights are then what they chose.
func administrators(path string) (bool, error) {
	info, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return false, err
	}
	owner, _, err := info.Owner()
	if err != nil {
		return false, err
	}
	us, err := ourSID()
	if err != nil {
		return false, err
	}
	switch owner.String() {
	case us, systemSID, "S-1-5-32-544", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464": // Administrators, TrustedInstaller
		return true, nil
	}
	return false, nil
}
