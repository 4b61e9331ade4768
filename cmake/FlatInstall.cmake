# What `cmake --install` puts where: library, headers, packages for pkg-config and CMake, manual
# pages, completion, service unit. tests/package builds against the result.

include(CMakePackageConfigHelpers)

install(TARGETS flat flat-rpc EXPORT libflatTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/flat DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

set(FLAT_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/libflat)
install(EXPORT libflatTargets NAMESPACE libflat:: DESTINATION ${FLAT_CMAKE_DIR})
configure_package_config_file(pkgconfig/libflatConfig.cmake.in
  ${CMAKE_BINARY_DIR}/pkgconfig/libflatConfig.cmake INSTALL_DESTINATION ${FLAT_CMAKE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/pkgconfig/libflatConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/pkgconfig/libflatConfig.cmake
  ${CMAKE_BINARY_DIR}/pkgconfig/libflatConfigVersion.cmake DESTINATION ${FLAT_CMAKE_DIR})

configure_file(pkgconfig/flat.pc.in ${CMAKE_BINARY_DIR}/pkgconfig/flat.pc @ONLY)
configure_file(pkgconfig/flat-grpc.pc.in ${CMAKE_BINARY_DIR}/pkgconfig/flat-grpc.pc @ONLY)
configure_file(pkgconfig/flat-rpc.pc.in ${CMAKE_BINARY_DIR}/pkgconfig/flat-rpc.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/pkgconfig/flat.pc ${CMAKE_BINARY_DIR}/pkgconfig/flat-rpc.pc
  ${CMAKE_BINARY_DIR}/pkgconfig/flat-grpc.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

configure_file(pkgconfig/flatd.service.in ${CMAKE_BINARY_DIR}/pkgconfig/flatd.service @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/pkgconfig/flatd.service DESTINATION lib/systemd/system)

file(GLOB FLAT_MAN CONFIGURE_DEPENDS docs/man/*.[1-8])
foreach(page ${FLAT_MAN})
  string(REGEX REPLACE ".*\\.([1-8])$" "\\1" section ${page})
  install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()

file(GLOB FLAT_COMPLETION CONFIGURE_DEPENDS docs/completion/*)
install(FILES ${FLAT_COMPLETION} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
