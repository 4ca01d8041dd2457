SELECT * FROM bulk;
