package console

type licence struct {
	ID, Module, Version, Kind string
	Texts                     []string
}

func licences() []licence { return nil }
