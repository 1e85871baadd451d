package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"stile/platform/ipcsock"
	"stile/tunnel/ipc"
)

// How many programs may be connected at a time. Root's are kept free, so that
// no user can lock the administrator out.
const (
	maxPerUser = 16
	maxUsers   = 48 // all users but root together
	maxRoot    = 16

	// Callers about whom the system is asked at a time, which may take a second.
	// Root is not asked about, and does not wait for others. Nobody may do anything
	// yet, so that one user must not keep the others out.
	maxAdmitting        = 32
	maxAdmittingPerUser = 8
)

const (
	stateGap     = 250 * time.Millisecond // between two states
	refreshEvery = time.Second            // byte counts and the like, while somebody watches
	partingTime  = 200 * time.Millisecond // for a goodbye
)

// Config is what a Server is made of.
type Config struct {
	Service Service
	Version string // of the service, for people
	Group   string // whose members may control it besides root; "": Group
	// Seated tells whether a user sits in front of this machine: they may
	// control it, too. nil: nobody does.
	Seated func(ctx context.Context, uid uint32) bool
	// Programs are the files of the programs that users control it with; root may
	// use any. nil: everybody may.
	Programs []string
	Log      *slog.Logger
}

// A Server lets programs watch and control a Service.
type Server struct {
	Config
	changed chan struct{} // holds one: there is something new to tell

	// What would fill the log is logged some of the times.
	refused, unshown rate.Sometimes

	mu      sync.Mutex // guards what follows
	readers map[*reader]struct{}
	users   map[string]int // connections by user; "": administrators
	doors   map[string]int // callers that the system is asked about, by user
	asking  int            // all of them
	serial  uint64         // of the latest snapshot that was begun
}

// New returns a Server that Run brings to life.
func New(c Config) *Server {
	if c.Group == "" {
		c.Group = Group
	}
	return &Server{
		Config: c, changed: make(chan struct{}, 1),
		readers: map[*reader]struct{}{}, users: map[string]int{}, doors: map[string]int{},
		refused: rate.Sometimes{First: 3, Interval: 10 * time.Second}, unshown: rate.Sometimes{First: 1, Interval: time.Minute},
	}
}

// Changed tells that State would say something new. It never waits, and costs
// nothing while nobody watches; changes in quick succession become one.
func (s *Server) Changed() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run serves programs that connect to l until ctx ends, which is no error. It
// closes l, tells everybody goodbye and waits until they are gone.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	g.Go(func() { s.publish(ctx) })
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("local socket: %w", err)
		case err != nil: // out of files, most likely: others may be freed
			s.Log.Warn("a local connection could not be taken", "error", err)
			pause(ctx, 100*time.Millisecond)
			continue
		}
		caller, err := ipcsock.Caller(conn)
		if err != nil {
			s.refused.Do(func() { s.Log.Warn("a local caller could not be identified", "error", err) })
			refuse(conn, ipc.SayCallerUnknown.With())
			continue
		}
		enter := func() {}
		if !ours(caller) {
			if !s.knock(caller.User()) {
				refuse(conn, busy())
				continue
			}
			enter = func() { s.knocked(caller.User()) }
		}
		g.Go(func() {
			r, refusal := s.admit(ctx, conn, caller)
			enter()
			if refusal != nil {
				refuse(conn, refusal)
				return
			}
			defer s.leave(r)
			r.serve(ctx)
		})
	}
}

// knock reports whether the system can be asked about one more caller.
func (s *Server) knock(user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking >= maxAdmitting || s.doors[user] >= maxAdmittingPerUser {
		return false
	}
	s.asking++
	s.doors[user]++
	return true
}

// knocked tells that the system has answered.
func (s *Server) knocked(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking--
	if s.doors[user]--; s.doors[user] == 0 {
		delete(s.doors, user)
	}
}

// admit decides whether the caller at conn may stay.
func (s *Server) admit(ctx context.Context, conn net.Conn, caller Caller) (*reader, *ipc.Problem) {
	if !s.allowed(ctx, conn, caller) {
		s.refused.Do(func() {
			s.Log.Info("a local caller was refused", "user", caller.User(), "gid", caller.GID, "pid", caller.PID)
		})
		return nil, ipc.SayNotAllowed.With("command", s.admission(caller))
	}
	if why := s.trusted(conn, caller); why != nil {
		return nil, why
	}
	r := s.join(conn, caller)
	if r == nil {
		return nil, busy()
	}
	return r, nil
}

func busy() *ipc.Problem {
	return ipc.SayTooMany.With()
}

// allowed: root, whoever runs the service, the members of the group, and who
// sits in front of the machine: nobody needs to log in again after installing.
func (s *Server) allowed(ctx context.Context, conn net.Conn, c Caller) bool {
	return ours(c) || ipcsock.Member(conn, c, s.Group) || c.Interactive() ||
		s.Seated != nil && s.Seated(ctx, c.UID)
}

// ours reports whether a caller is root, or whoever runs the service.
func ours(c Caller) bool { return c.Admin() || int64(c.UID) == int64(os.Geteuid()) }

// trusted refuses programs that are not to control the service for a user.
func (s *Server) trusted(conn net.Conn, c Caller) *ipc.Problem {
	if s.Programs == nil || ours(c) {
		return nil
	}
	err := ipcsock.Trusted(conn, c, s.Programs)
	if err == nil {
		return nil
	}
	s.refused.Do(func() {
		s.Log.Info("a program was refused", "user", c.User(), "pid", c.PID, "reason", err)
	})
	if errors.Is(err, ipcsock.ErrReplaced) {
		return ipc.SayProgramReplaced.With()
	}
	return ipc.SayProgramUntrusted.With("reason", err.Error())
}

// admission is the command that lets a caller in.
func (s *Server) admission(c Caller) string {
	name := "YOUR-USER-NAME"
	if u, err := user.LookupId(strconv.FormatUint(uint64(c.UID), 10)); err == nil {
		name = u.Username
	}
	command := fmt.Sprintf("sudo usermod -aG %s %s", s.Group, name)
	if _, err := user.LookupGroup(s.Group); err != nil {
		command = fmt.Sprintf("sudo groupadd -r %s && %s", s.Group, command)
	}
	return command
}

// join counts a caller in; the result is nil if there are too many.
func (s *Server) join(conn net.Conn, c Caller) *reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := newReader(s, conn, c)
	root, all := s.users[""], len(s.readers)
	if c.Admin() && root >= maxRoot || !c.Admin() && (s.users[r.user] >= maxPerUser || all-root >= maxUsers) {
		return nil
	}
	s.readers[r] = struct{}{}
	s.users[r.user]++
	return r
}

func (s *Server) leave(r *reader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.readers, r)
	if s.users[r.user]--; s.users[r.user] == 0 {
		delete(s.users, r.user)
	}
}

// refuse says why and hangs up. The words fit into the buffer of a socket that
// nobody has written to, so that this does not wait for the caller.
func refuse(conn net.Conn, why *ipc.Problem) {
	defer conn.Close()
	frame, err := ipc.AppendMessage(nil, ipc.Message{Goodbye: why})
	if err == nil && conn.SetWriteDeadline(time.Now().Add(partingTime)) == nil {
		conn.Write(frame)
	}
}

// A snapshot is an encoded State. Serials grow with the time at which it was
// begun.
type snapshot struct {
	serial uint64
	frame  []byte // not changed any more; nil: it cannot be shown
	others []byte // what those get who may not see it; nil: nobody is kept out
	may    func(Caller) bool
}

// of returns the frame for a caller.
func (s snapshot) of(c Caller) []byte {
	if s.may == nil || s.may(c) {
		return s.frame
	}
	return s.others
}

// begin returns the serial of something that begins now.
func (s *Server) begin() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	return s.serial
}

// snapshot asks for the state. If that fails, the tunnel is more important than
// those who watch it: they keep what they have.
func (s *Server) snapshot() (taken snapshot, ok bool) {
	defer func() {
		if what := recover(); what != nil {
			s.unshown.Do(func() { s.Log.Error("the state could not be taken", "panic", what, "stack", string(debug.Stack())) })
			ok = false
		}
	}()
	taken.serial = s.begin()
	var state ipc.State
	discreet, is := s.Service.(Discreet)
	if is {
		state, taken.may = discreet.Show()
	} else {
		state = s.Service.State()
	}
	if taken.may != nil {
		taken.others = s.encode(state.ForOthers())
	}
	taken.frame = s.encode(state)
	return taken, true
}

// encode returns nil if the state cannot be shown: only that of an enormous
// account is too long.
func (s *Server) encode(state ipc.State) []byte {
	frame, err := ipc.AppendMessage(nil, ipc.Message{State: &state})
	if err != nil {
		s.unshown.Do(func() { s.Log.Error("the state cannot be shown", "error", err) })
		return nil
	}
	return frame
}

// publish tells everybody what is new, at most every stateGap, and looks for
// something new every refreshEvery while anybody watches.
func (s *Server) publish(ctx context.Context) {
	for ctx.Err() == nil {
		readers := s.watching()
		var refresh <-chan time.Time
		if len(readers) > 0 {
			if news, ok := s.snapshot(); ok {
				for _, r := range readers {
					r.offer(news)
				}
			}
			pause(ctx, stateGap)
			refresh = time.After(refreshEvery - stateGap)
		}
		select {
		case <-ctx.Done():
		case <-s.changed:
		case <-refresh:
		}
	}
}

func (s *Server) watching() []*reader {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*reader, 0, len(s.readers))
	for r := range s.readers {
		list = append(list, r)
	}
	return list
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
