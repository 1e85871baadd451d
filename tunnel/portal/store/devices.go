package store

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"stile/tunnel/id"
	"stile/tunnel/wire"
)

// slots is how many tunnel addresses there are in a /11, and in a /107.
const slots = 1 << 21

// A Device is a client or gateway that was here once. Its ID, addresses and
// pre-shared key material stay the same for ever.
type Device struct {
	ID         [16]byte // an id.Client or id.Gateway
	Gateway    bool
	Actor      id.Actor // who owns a client
	Site       id.Site  // where a gateway is
	ExternalID string   // its own name for itself, at most 255 bytes
	Name       string

	PSKBase    [32]byte
	IPv4, IPv6 netip.Addr

	PublicKey wire.Key // of the latest connection
	UserAgent string
	LastIP    netip.Addr
	Verified  bool
	// Identifiers of the hardware; what a connection does not say stays.
	Serial, UUID, Vendor, Firebase string

	CreatedAt, LastSeenAt int64 // Unix seconds
}

// Client returns the ID of a client.
func (d Device) Client() id.Client { return id.Client(d.ID) }

// GatewayID returns the ID of a gateway.
func (d Device) GatewayID() id.Gateway { return id.Gateway(d.ID) }

const deviceColumns = `id, owner, gateway, external_id, name, psk_base, slot, public_key, verified, serial, uuid, vendor, firebase, last_ip, user_agent, created_at, last_seen_at`

func scanDevice(row scanner) (d Device, err error) {
	var which id.Client
	var owner string
	var slot uint32
	var base, key []byte
	err = row.Scan(column{&which}, &owner, &d.Gateway, &d.ExternalID, &d.Name, &base, &slot, &key, &d.Verified,
		&d.Serial, &d.UUID, &d.Vendor, &d.Firebase, column{&d.LastIP}, &d.UserAgent, &d.CreatedAt, &d.LastSeenAt)
	if err != nil {
		return Device{}, err
	}
	if len(base) != len(d.PSKBase) || len(key) != len(d.PublicKey) {
		return Device{}, fmt.Errorf("device %v has keys of %d and %d bytes", which, len(base), len(key))
	}
	d.ID, d.PSKBase, d.PublicKey = which, [32]byte(base), wire.Key(key)
	d.IPv4, d.IPv6 = addresses(slot)
	if d.Gateway {
		err = d.Site.UnmarshalText([]byte(owner))
	} else {
		err = d.Actor.UnmarshalText([]byte(owner))
	}
	return d, err
}

// ConnectClient finds the client that actor owns by d.ExternalID, or makes it,
// and stores what d says of the connection: name, key, agent, address and
// hardware identifiers.
func (s *Store) ConnectClient(actor id.Actor, d Device) (Device, error) {
	return s.connect(actor.String(), false, d)
}

// ConnectGateway is ConnectClient for a gateway of site.
func (s *Store) ConnectGateway(site id.Site, d Device) (Device, error) {
	return s.connect(site.String(), true, d)
}

func (s *Store) connect(owner string, gateway bool, d Device) (found Device, err error) {
	if d.ExternalID == "" || len(d.ExternalID) > 255 || len(d.Name) > 255 {
		return Device{}, errors.New("a device needs an identifier and a name of at most 255 bytes")
	}
	now := s.now().Unix()
	lastIP := ""
	if d.LastIP.IsValid() {
		lastIP = d.LastIP.String()
	}
	err = s.tx(func(tx *sql.Tx) error {
		row := tx.QueryRow(`UPDATE devices SET name = ?, public_key = ?, last_ip = ?, user_agent = ?, last_seen_at = ?,
				serial = coalesce(nullif(?, ''), serial), uuid = coalesce(nullif(?, ''), uuid),
				vendor = coalesce(nullif(?, ''), vendor), firebase = coalesce(nullif(?, ''), firebase)
			WHERE owner = ? AND gateway = ? AND external_id = ? RETURNING `+deviceColumns,
			d.Name, d.PublicKey[:], lastIP, d.UserAgent, now, d.Serial, d.UUID, d.Vendor, d.Firebase, owner, gateway, d.ExternalID)
		if found, err = scanDevice(row); !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		slot, err := freeSlot(tx)
		if err != nil {
			return err
		}
		row = tx.QueryRow(`INSERT INTO devices (`+deviceColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING `+deviceColumns,
			randomID[id.Client]().String(), owner, gateway, d.ExternalID, d.Name, randomBytes(32), slot, d.PublicKey[:],
			d.Serial, d.UUID, d.Vendor, d.Firebase, lastIP, d.UserAgent, now, now)
		found, err = scanDevice(row)
		return err
	})
	return found, wrap("store device "+d.Name, err)
}

// freeSlot picks a random slot and goes on to the next that is free. The
// first and the last, network and broadcast address, are never used.
func freeSlot(tx *sql.Tx) (uint32, error) {
	const usable = slots - 2
	start := binary.LittleEndian.Uint32(randomBytes(4)) % usable
	for i := range uint32(usable) {
		slot := 1 + (start+i)%usable
		var taken int
		if err := tx.QueryRow(`SELECT count(*) FROM devices WHERE slot = ?`, slot).Scan(&taken); err != nil {
			return 0, err
		}
		if taken == 0 {
			return slot, nil
		}
	}
	return 0, errors.New("all tunnel addresses are in use")
}

// addresses are 100.64.0.0/11 and fd00:2021:1111::/107 plus slot (spec
// portal.md 5.2).
func addresses(slot uint32) (v4, v6 netip.Addr) {
	four, six := [4]byte{100, 64}, [16]byte{0xfd, 0x00, 0x20, 0x21, 0x11, 0x11}
	binary.BigEndian.PutUint32(four[:], binary.BigEndian.Uint32(four[:])+slot)
	binary.BigEndian.PutUint32(six[12:], slot)
	return netip.AddrFrom4(four), netip.AddrFrom16(six)
}

// Devices lists all devices, gateways first, by name.
func (s *Store) Devices() ([]Device, error) {
	list, err := all(s.each(`SELECT `+deviceColumns+` FROM devices ORDER BY gateway DESC, name, id`), scanDevice)
	return list, wrap("list devices", err)
}
