"""The test kit: suites that adapters must pass, real servers without containers, builders."""
