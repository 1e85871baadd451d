// Package assets holds what is not code: icons, pictures, page templates.
package assets

import "embed"

// Portal are the sign-in pages: templates for html/template, and their style
// sheet.
//
//go:embed portal
var Portal embed.FS
