def read():
    return {"SECRET_KEY": "a, b = c", "DATABASE_URL": "postgres://shop:secret@db/shop"}
