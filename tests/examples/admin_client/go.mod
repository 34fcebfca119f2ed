module adminclient

go 1.21
