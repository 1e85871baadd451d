package serve

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// A problem is why an upgrade was refused, as newer peers read it (spec
// portal.md 1.6).
type problem struct {
	status int
	code   string
	detail string
	retry  time.Duration // Retry-After; 0: none
}

// The refusals that peers tell apart. All failures of a token look alike.
var (
	missingToken = problem{status: http.StatusUnauthorized, code: "missing_token", detail: "The request carries no token."}
	invalidToken = problem{status: http.StatusUnauthorized, code: "invalid_token", detail: "The token is unknown, expired or revoked, or belongs to another kind of peer."}
	tooOften     = problem{status: http.StatusServiceUnavailable, code: "rate_limit", detail: "More than one connection in a second.", retry: time.Second}
	unavailable  = problem{status: http.StatusServiceUnavailable, code: "unhandled_connect_error", detail: "The portal is stopping, or its store does not answer.", retry: 5 * time.Second}
	noSite       = problem{status: http.StatusServiceUnavailable, code: "unhandled_connect_error", detail: "The site of this gateway's token is not in the portal's configuration.", retry: 30 * time.Second}
)

// badParams refuses a parameter. detail is a sentence.
func badParams(detail string) problem {
	return problem{status: http.StatusBadRequest, code: "invalid_connect_params", detail: detail}
}

// write sends p in one piece, with its length: peers read a body only as far as
// it came with the headers.
func (p problem) write(w http.ResponseWriter) {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
	}{"about:blank", http.StatusText(p.status), p.status, p.detail, p.code})
	if err != nil {
		panic(err) // strings and numbers can always be encoded
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if p.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(p.retry/time.Second)))
	}
	w.WriteHeader(p.status)
	w.Write(body)
}
