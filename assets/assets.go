// Package assets holds what is not code: icons, pictures, page templates.
package assets

import "embed"

// Portal are the sign-in pages: templates for html/template, and their style
// sheet.
//
//go:embed portal
var Portal embed.FS

// Tray are the icons that build/icons draws: tray/NAME-SIZE.png.
//
//go:embed tray
var Tray embed.FS

// Console are the status and settings pages of the app: templates for
// html/template, their style sheet and their script.
//
//go:embed console
var Console embed.FS
