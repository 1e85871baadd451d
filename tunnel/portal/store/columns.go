package store

import (
	"encoding"
	"fmt"
	"iter"

	"database/sql"
)

// A column reads a text column into a value that knows its text; an empty
// text or NULL leaves it as it is.
type column struct{ into encoding.TextUnmarshaler }

// Scan implements sql.Scanner.
func (c column) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		if v == "" {
			return nil
		}
		return c.into.UnmarshalText([]byte(v))
	}
	return fmt.Errorf("column holds %T, not text", value)
}

// each runs a query and yields its rows, and at the end an error if there was
// one.
func (s *Store) each(query string, args ...any) iter.Seq2[*sql.Rows, error] {
	return func(yield func(*sql.Rows, error) bool) {
		rows, err := s.db.Query(query, args...)
		if err != nil {
			yield(nil, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			if !yield(rows, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// all collects what scan makes of each row.
func all[T any](rows iter.Seq2[*sql.Rows, error], scan func(scanner) (T, error)) ([]T, error) {
	var list []T
	for row, err := range rows {
		if err != nil {
			return nil, err
		}
		t, err := scan(row)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

// A scanner is one row.
type scanner interface{ Scan(into ...any) error }
