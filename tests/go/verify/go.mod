module liaison.example/verify

go 1.27
