package phoenix

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Failure is why there is no connection.
type Failure struct {
	Err   error
	Fatal bool // another attempt cannot help
	// RetryAfter is what the server asked for; zero: nothing.
	RetryAfter time.Duration
}

// A Response is the portal's answer to an upgrade that it did not grant.
type Response struct {
	Status      int
	ContentType string
	RetryAfter  string // the header's value; "" for none
	Body        []byte // as far as it was read; borrowed
}

// Refused tells what an answer other than 101 means (1.6). wall is the
// calendar time, for a Retry-After that is a date.
func Refused(r Response, wall time.Time) Failure {
	code, detail := problem(r)
	if r.Status == 401 {
		if code == "invalid_token" || code == "missing_token" {
			return Failure{Err: ErrTokenRejected, Fatal: true}
		}
		return Failure{Err: fmt.Errorf("%w (HTTP 401)", ErrUnauthorized), Fatal: true}
	}
	err := fmt.Errorf("the portal answered HTTP %d", r.Status)
	if code != "" {
		err = fmt.Errorf("the portal answered HTTP %d %.60q: %.200q", r.Status, code, detail)
	}
	return Failure{Err: err, RetryAfter: retryAfter(r.RetryAfter, wall)}
}

// problem reads an application/problem+json body; nothing else is looked at.
func problem(r Response) (code, detail string) {
	media, _, _ := strings.Cut(r.ContentType, ";")
	if !strings.EqualFold(strings.TrimSpace(media), "application/problem+json") {
		return "", ""
	}
	var body struct{ Code, Detail string }
	if json.Unmarshal(r.Body, &body) != nil {
		return "", ""
	}
	return body.Code, body.Detail
}

// retryAfter reads decimal seconds or an HTTP date (RFC 9110 §10.2.3).
func retryAfter(value string, wall time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	date, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", value)
	if err != nil {
		return 0
	}
	return max(date.Sub(wall), 0)
}
