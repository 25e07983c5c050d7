-- Read what an evaluation needs beside its subjects. Returns the silences, names and documents alternating, and the
-- fields of the signs of life.
local silences = KEYS[1] -- hash: silences by id
local liveness = KEYS[2] -- hash: part → time
local fields_at = 1      -- ARGV[fields_at], …: names of fields of the signs of life

return {redis.call('HGETALL', silences), redis.call('HMGET', liveness, unpack(ARGV, fields_at))}
