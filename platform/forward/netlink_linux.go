package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A firewall speaks to nf_tables over one netlink socket, which owns the
// tables it makes with [tableOwner]: the kernel removes those when it closes.
type firewall struct {
	conn *netlink.Conn
	// commit carries out messages as one transaction. Tests replace it by
	// kernels that lack something.
	commit func([]netlink.Message) error
}

func dial() (*firewall, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open the kernel's firewall: %w", err)
	}
	f := &firewall{conn: c}
	f.commit = f.send
	return f, nil
}

func (f *firewall) close() error { return f.conn.Close() }

// message makes one request. family is an NFPROTO number.
func message(kind int, flags netlink.HeaderFlags, family byte, attrs ...netlink.Attribute) netlink.Message {
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		panic(err) // an attribute above 64 KiB
	}
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, data...),
	}
}

// change makes a request for commit: each is acknowledged.
func change(kind int, flags netlink.HeaderFlags, family byte, attrs ...netlink.Attribute) netlink.Message {
	return message(kind, flags|netlink.Acknowledge, family, attrs...)
}

func text(kind uint16, s string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(s), 0)}
}

func number(kind uint16, n uint32) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: binary.BigEndian.AppendUint32(nil, n)}
}

func long(kind uint16, n uint64) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: binary.BigEndian.AppendUint64(nil, n)}
}

func nested(kind uint16, attrs ...netlink.Attribute) netlink.Attribute {
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		panic(err)
	}
	return netlink.Attribute{Type: kind | unix.NLA_F_NESTED, Data: data}
}

// expressions is the list of what a rule does.
func expressions(family byte, exprs ...expr.Any) netlink.Attribute {
	var list []netlink.Attribute
	for _, e := range exprs {
		list = append(list, element(family, e))
	}
	return nested(unix.NFTA_RULE_EXPRESSIONS, list...)
}

// element is one of the things that a rule does.
func element(family byte, e expr.Any) netlink.Attribute {
	if o, ok := e.(*origin); ok {
		return o.element()
	}
	data, err := expr.Marshal(family, e)
	if err != nil {
		panic(err) // ours are all well formed
	}
	return netlink.Attribute{Type: unix.NFTA_LIST_ELEM | unix.NLA_F_NESTED, Data: data}
}

// leftover is how long to wait for more answers after a failure.
const leftover = 20 * time.Millisecond

// send carries out messages, all or none. The error joins what the kernel says
// to each.
func (f *firewall) send(messages []netlink.Message) error {
	mark := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request},
			Data:   []byte{0, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
		}
	}
	batch := append([]netlink.Message{mark(unix.NFNL_MSG_BATCH_BEGIN)}, messages...)
	if _, err := f.conn.SendMessages(append(batch, mark(unix.NFNL_MSG_BATCH_END))); err != nil {
		return err
	}
	defer f.conn.SetReadDeadline(time.Time{})
	var errs []error
	for range messages {
		if len(errs) > 0 { // the kernel may have given up on the others
			f.conn.SetReadDeadline(time.Now().Add(leftover))
		}
		switch _, err := f.conn.Receive(); {
		case errors.Is(err, unix.ETIMEDOUT), isTimeout(err):
			return errors.Join(errs...)
		case err != nil:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// dump lists objects of one kind. A list during which the rules changed is
// read again.
func (f *firewall) dump(kind int, family byte, attrs ...netlink.Attribute) ([]netlink.Message, error) {
	for range 10 {
		list, err := f.conn.Execute(message(kind, netlink.Dump, family, attrs...))
		if err != nil {
			return nil, err
		}
		torn := false
		for _, m := range list {
			torn = torn || m.Header.Flags&netlink.DumpInterrupted != 0
		}
		if !torn {
			return list, nil
		}
	}
	return nil, errors.New("the firewall's rules change faster than they can be read")
}

// decode calls each for the attributes of a message or a nest.
func decode(data []byte, each func(*netlink.AttributeDecoder)) error {
	d, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return err
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		each(d)
	}
	return d.Err()
}

// body returns what follows the four bytes of a message's own header.
func body(m netlink.Message) []byte {
	if len(m.Data) < 4 {
		return nil
	}
	return m.Data[4:]
}
