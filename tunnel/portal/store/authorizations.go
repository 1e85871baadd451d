package store

import "stile/tunnel/portal"

// SaveAuthorization stores a in place of an older one of the same client,
// gateway and resource.
func (s *Store) SaveAuthorization(a portal.Authorization) error {
	_, err := s.db.Exec(`INSERT OR REPLACE INTO authorizations
			(id, client, gateway, resource, policy, token, actor, actor_name, actor_email, actor_service, basis, created_at, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		a.ID.String(), a.Client.String(), a.Gateway.String(), a.Resource.String(), a.Policy.String(), a.Token.String(),
		a.Actor.ID.String(), a.Actor.Name, a.Actor.Email, a.Actor.Service, a.Basis, a.CreatedAt, a.ExpiresAt)
	return wrap("store an authorization", err)
}

// DropAuthorization deletes an authorization; it is no error if there is none.
func (s *Store) DropAuthorization(which portal.AuthorizationID) error {
	_, err := s.db.Exec(`DELETE FROM authorizations WHERE id = ?`, which.String())
	return wrap("delete an authorization", err)
}

// Authorizations lists all authorizations, oldest first.
func (s *Store) Authorizations() ([]portal.Authorization, error) {
	list, err := all(s.each(`SELECT id, client, gateway, resource, policy, token, actor, actor_name, actor_email, actor_service, basis, created_at, expires_at
		FROM authorizations ORDER BY created_at, id`), func(row scanner) (a portal.Authorization, err error) {
		err = row.Scan(column{&a.ID}, column{&a.Client}, column{&a.Gateway}, column{&a.Resource}, column{&a.Policy}, column{&a.Token},
			column{&a.Actor.ID}, &a.Actor.Name, &a.Actor.Email, &a.Actor.Service, &a.Basis, &a.CreatedAt, &a.ExpiresAt)
		return a, err
	})
	return list, wrap("list authorizations", err)
}
