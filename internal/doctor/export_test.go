package doctor

// TakenPorts is for tests.
var TakenPorts = takenPorts
