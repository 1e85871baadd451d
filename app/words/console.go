package words

// Console are the texts of the status and settings pages, of one language.
// Titles are sentence fragments, explanations sentences.
type Console struct {
	Tag    string // of the Words that go with it
	Itself string // name of the language, in it

	// Around each page.
	Pages            string // name of the list of pages
	SkipToContent    string
	NoScript         string
	Refresh          string
	StatusTitle      string
	ResourcesTitle   string
	DiagnosticsTitle string
	SettingsTitle    string
	AboutTitle       string
	Cancel           string
	Continue         string
	Unknown          string // a value that is not known
	DecimalPoint     string
	Ago              func(age string) string
	JustNow          string

	// Refusals.
	RefusedTitle  string
	RefusedText   string // no session
	UsedText      string // a one-time address a second time, or too late
	StrangerText  string // sent by another page
	StaleText     string // form of an older session
	NotFoundTitle string
	NotFoundText  string
	WrongTitle    string
	WrongText     string
	BusyText      string
	Gone          string // the program does not answer any more

	// Session.
	Session        string
	HeadIn         string
	HeadOut        string
	HeadWaiting    string
	HeadTrouble    string
	PillIn         string
	PillOut        string
	PillBusy       string
	PillWaiting    string
	PillTrouble    string
	OutAdvice      string
	WaitingAdvice  string
	MissingAdvice  string
	SilentAdvice   string
	DeniedAdvice   string
	OutdatedAdvice string
	BrowserHint    string
	OpenSignIn     string
	PasteLabel     string
	PasteHint      string
	PasteButton    string
	Since          string // name of a time
	Portal         string
	PortalUp       string
	PortalDown     string
	Reachable      string
	OfThem         func(n, blocked string) string

	// Traffic and gateways.
	Traffic         string
	Received        string
	Sent            string
	LastMinutes     string
	GraphLabel      func(in, out, peak string) string // what a screen reader says of a graph
	Gateways        string
	Gateway         string
	NoGateways      string
	NoSite          string
	PathDirect      string
	PathRelayed     string
	StateConnecting string
	StateIdle       string
	RoundTrip       string
	Handshake       string
	Address         string
	Uplink          string // our end of the path

	// This computer.
	ThisComputer string
	Interface    string
	Routes       func(n int) string
	DNSMode      string
	Resolvers    string
	Upstream     string
	SearchDomain string

	// Resources.
	Search         string
	SearchHint     string
	SearchButton   string
	Shown          string
	All            string
	Favorites      string
	Blocked        string
	Found          func(n int) string
	Favorite       func(resource string) string // name of a toggle
	Copy           func(what string) string
	Copied         func(what string) string
	NewTab         string
	Why            string
	SwitchOn       string
	SwitchOff      string
	More           func(n int) string
	ShowAll        string
	EmptySearch    string
	EmptyOut       string
	EmptyAll       string
	EmptyFavorites string
	EmptyBlocked   string

	// Why.
	WhyPage         string
	WhyTitle        string
	WhyText         string
	WhyLabel        string
	WhyButton       string
	WhyPattern      func(pattern string) string
	WhyCode         string
	WhySteps        string
	StepOK          string
	StepFailed      string
	StepOpen        string
	StepService     string
	StepNetwork     string
	StepSession     string
	StepName        string
	StepResource    string
	StepRoute       string
	StepAccess      string
	StepGateway     string
	StepResolve     string
	StepAnswer      string
	WhyLate         string
	WhyNoTarget     string
	BackToResources string

	// Export of logs.
	ExportTitle    string
	ExportText     string
	ExportNames    string
	ExportReplace  string
	ExportKeep     string
	ExportButton   string
	ExportRunning  string
	ExportProgress func(done, total string) string
	ExportDone     string
	ExportResult   func(size, files, replaced string) string
	ExportMissing  string
	ExportCanceled string
	ExportBusy     string
	ExportFailed   func(reason string) string
	// What an export lacks, and why.
	MissingFile    func(name, why string) string
	MissingPart    func(name, why string) string
	MissingService func(why string) string
	MissingRest    func(why string) string // of what the service has
	MissingDisk    func(files, why string) string
	NotReadable    string
	NotRunning     string                    // the service is
	NotThere       string                    // a file is
	NotAnswering   string                    // the service is, any more
	TooLong        func(limit string) string // a file is, in MB
	ExportSure     string
	ExportSureText string

	// DNS.
	DNS        string
	DNSUnknown string
	CheckNow   string
	Checking   string
	Checked    func(at string) string
	AsksUs     string
	AsksOthers string
	// What is asked, and why it was of no use.
	CheckSentinel func(address string) string
	CheckPortal   string
	CheckPortalAt func(server string) string
	CheckResource string
	NoSuchName    string
	NoAnswer      string
	Impostor      string // something else answers in our resolver's place

	// Recent events.
	Lately           string
	NoEvents         string
	EventNetwork     string
	EventUplink      func(site, address string) string
	EventServiceBack string
	EventConnected   string
	EventPortalBack  string
	EventGateway     func(site string) string
	EventDirect      func(site string) string
	EventRelayed     func(site string) string
	EventGatewayGone func(site string) string
	EventBlocked     func(resource string) string
	EventUnblocked   func(resource string) string
	EventInternetOn  string
	EventInternetOff string
	EventDNS         string
	EventResources   func(n string) string

	// Logs.
	Logs             string
	LogSearch        string
	Level            string
	LevelDebug       string
	LevelInfo        string
	LevelWarning     string
	LevelError       string
	Contains         string
	FilterButton     string
	LogFilterIs      func(filter string) string
	LogFilterUnknown string
	LogMore          string
	LogMoreDone      string
	LogClear         string
	LogClearSure     string
	LogClearText     string
	LogClearYes      string
	LogClearDone     string
	NewestFirst      string
	NoLines          string
	LogUnreadable    func(folder string) string
	Counters         string
	CountersText     string
	NoCounters       string

	// Settings.
	Account           string
	General           string
	Slug              string
	SlugHint          string
	SlugWrong         string
	StartOnLogin      string
	StartMinimized    string
	ConnectOnStart    string
	Language          string
	LanguageAuto      string
	Apply             string
	Reset             string
	Saved             string
	ResetDone         string
	Advanced          string
	AdvancedWarning   string
	AdvancedAway      string
	AuthURL           string
	AuthURLHint       string
	APIURL            string
	APIURLHint        string
	LogFilter         string
	LogFilterHint     string
	Managed           string
	Policy            string
	PolicyText        string
	PolicySupport     string
	PolicyAdminPortal string
	PolicyUpdates     string
	Hidden            string
	InternetTitle     string
	InternetOnText    string
	InternetOffText   string
	On                string
	Off               string

	// About.
	AboutText    string
	App          string
	Service      string
	System       string
	BuiltWith    string
	UpdateKnown  func(version string) string
	DownloadIt   string
	Licences     string
	LicencesText string
	LicenceOf    string
}

// consoles are all tables, in the order of languages.
var consoles = []*Console{&englishConsole, &germanConsole}

// Console is the table of the same language for the pages.
func (w *Words) Console() *Console {
	for _, c := range consoles {
		if c.Tag == w.Tag {
			return c
		}
	}
	return consoles[0]
}

// Tags are the languages there are.
func Tags() []string {
	var tags []string
	for _, w := range languages {
		tags = append(tags, w.Tag)
	}
	return tags
}
